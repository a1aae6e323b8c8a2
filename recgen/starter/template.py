"""The YAML that `recgen init` writes, with what each line is for."""

from __future__ import annotations

import json
from pathlib import Path

from recgen.core.errors import UserError
from recgen.starter.prepared import Prepared

_BATCH, _LEAST_BATCH = 1024, 128
_BATCHES = 24
"""Batches of an epoch, of which there are few: of 6,186 purchases in two batches a model learned less than popularity knows."""


def configuration(made: Prepared, interactions: int, title: str) -> str:
    """Return the text of a configuration for a prepared data set.

    Parameters
    ----------
    made
        The data set.
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
    lines += _ranker(interactions)
    lines += [
        "  generators: [taste, ip_adapter_mean]   # recgen generators lists what there is",
        "  # what each is measured beside; without a placebo no report can say whose image is better",
        "  controls: [original, constant, swapped, random_item, blank, placebo]",
        "  placebo_noises: 4             # the placebo: what choosing among so many images of an item earns by itself",
        "  downstream: {settings: {epochs: 20}}   # each retraining a glimpse; preset standard trains to the end",
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


def _ranker(interactions: int) -> list[str]:
    batch = _BATCH
    while batch > _LEAST_BATCH and interactions < _BATCHES * batch:
        batch //= 2
    few = batch < _BATCH
    settings = f", settings: {{VBPR: {{train_batch_size: {batch}}}}}" if few else ""
    return [
        "  # Two models on disjoint halves of the log: what judges is none that a generator has seen. Of those that learn",
        "  # from likes alone VBPR judges images better than MICRO (docs/guides/ranking-models.md).",
        *([f"  # batches for as few as {interactions:,} interactions"] if few else []),
        f"  ranker: {{reward: VBPR, judge: VBPR{settings}}}",
    ]


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
