"""The YAML that `recgen init` writes, with what each line is for."""

from __future__ import annotations

import json
from pathlib import Path

from recgen.core.errors import UserError
from recgen.starter.prepared import Prepared

_MANY = 5_000
"""Items from which MICRO, whose graph every batch passes through, takes tens of minutes on a CPU."""

_BATCH, _LEAST_BATCH = 4096, 128
_BATCHES = 24
"""Batches of an epoch, of which quick has few: of 6,186 purchases in two batches MICRO learned less than popularity knows."""


def configuration(made: Prepared, items: int, interactions: int, title: str) -> str:
    """Return the text of a configuration for a prepared data set.

    Parameters
    ----------
    made
        The data set.
    items
        How many items it has, which decides the ranking model.
    interactions
        How many interactions it has, which decides the size of a batch.
    title
        What the folder was, for the first line.
    """
    lines = [
        f"# Made by `recgen init` of {title}. Every key: docs/reference/keys.md; what a run would take: recgen plan --config ...",
        f"dataset: {_text(made.folder.name)}",
        f"data_path: {_text(f'{made.folder.parent}/')}",
        "load_col:                       # columns that RecBole reads",
        f"  inter: [{', '.join(_columns(made.folder / f'{made.folder.name}.inter'))}]",
        f"  item: [item_id{''.join(f', {name}' for name in made.texts)}]",
        "",
        "recgen:",
        "  preset: quick                 # minutes, to see everything work; standard or paper for results",
        "  seed: 0",
        "  workers: auto                 # processes side by side: one a core, as far as memory goes; one on a GPU",
        f"  images: {_text(made.images)}" if made.images else "  # images: the column image of .item",
    ]
    if made.image_ids is not None:
        lines.append(f"  image_ids: {_text(str(made.image_ids))}     # which image is which item's")
    if made.texts:
        lines.append(
            f"  text_fields: [{', '.join(made.texts)}]   # what an item's text is made of, in this order"
        )
    likes = (
        "ratings from here up are likes"
        if made.threshold is not None
        else "no ratings: every interaction is a like"
    )
    lines.append(
        f"  like_threshold: {'null' if made.threshold is None else f'{made.threshold:g}'}            # {likes}"
    )
    lines += _ranker(items, interactions)
    lines += [
        "  generators: [taste, ip_adapter_mean]   # recgen generators lists what there is",
        "  # what each is measured beside; without a placebo no report can say whose image is better",
        "  controls: [original, constant, swapped, random_item, blank, placebo]",
        "  placebo_noises: 4             # the placebo: what choosing among so many images of an item earns by itself",
        "  # The small models that are shipped draw posters of a renderer, not photographs. For real weights:",
        "  # encoder: {model: ViT-H-14, pretrained: laion2b_s32b_b79k}",
        "  # backbone: stable-diffusion-v1-5/stable-diffusion-v1-5",
        "  # ip_adapter: h94/IP-Adapter/models/ip-adapter_sd15.safetensors",
        "  encoder: demo-clip",
        "  backbone: demo-sd",
        "  ip_adapter: demo-ip-adapter",
        "",
    ]
    return "\n".join(lines)


def _ranker(items: int, interactions: int) -> list[str]:
    model = "MICRO" if items <= _MANY else "VBPR"
    batch = _BATCH
    while batch > _LEAST_BATCH and interactions < _BATCHES * batch:
        batch //= 2
    few = batch < _BATCH
    lines = [
        f"  # MICRO would take {items / 1_500:.0f} times as long on so many items" if model == "VBPR" else "",
        f"  # batches for as few as {interactions:,} interactions" if few else "",
        f"  ranker: {{reward: {model}, judge: {model}"
        + (f", settings: {{{model}: {{train_batch_size: {batch}}}}}" if few else "")
        + "}   # judged by a model that the generators have not seen",
    ]
    return [line for line in lines if line]


def _columns(log: Path) -> list[str]:
    from recgen.data.atomic import columns

    wanted = ("user_id", "item_id", "rating", "timestamp")
    found = columns(log, "\t")
    missing = [name for name in wanted[:2] if name not in found]
    if missing:
        raise UserError(
            str(log), found=f"columns {', '.join(found)}", expected=f"a column {missing[0]}",
            todo="Write the YAML by hand, with USER_ID_FIELD and ITEM_ID_FIELD.",
        )  # fmt: skip
    return [name for name in wanted if name in found]


def _text(value: str | None) -> str:
    """Return a text as YAML reads it back: plain where that is safe, else in JSON's quotes."""
    safe = (
        value is not None
        and value.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum()
    )
    return (
        str(value)
        if safe and not str(value)[:1].isdigit() and str(value)[:1] not in "-."
        else json.dumps(value)
    )
