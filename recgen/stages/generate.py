"""The generator.fit and generate stages: fit each generator, then draw its creatives in chunks that survive a kill."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL.PngImagePlugin import PngInfo

from recgen.config import plugins
from recgen.config.generators import GeneratorSpec
from recgen.core import provenance
from recgen.core.errors import UserError
from recgen.core.io import (
    flush,
    read_features,
    sync,
    write_bytes,
    write_features,
    write_json,
    write_parquet,
)
from recgen.core.progress import show
from recgen.data.shards import write_shard
from recgen.data.types import Creative, Request
from recgen.diffusion.conditions import BrokenImageError
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import PLACEBO
from recgen.pipeline.groups import is_shared
from recgen.recommender.reward import LazyRanker
from recgen.stages import groups
from recgen.stages.chunks import INDEX, MANIFEST, SECONDS, Chunks
from recgen.stages.plugin_calls import calling, checked, title
from recgen.stages.ranker import judge_of_generators, reward_model

_PLACE = ["offset", "length"]
RECIPE = "recgen"
"""Key of the PNG text chunk that holds a creative's recipe as JSON."""


def generator(run: RunContext, name: str) -> Any:
    """Return a generator of the run, not fitted."""
    spec = run.config.generators[name]
    kind, settings = _kind(run, spec)
    backbone = run.models.backbone_for(name) if settings.families else None
    with calling(spec, "__init__"):
        return kind(settings, backbone, run.models.encoder, run.models.language_model)


def _kind(run: RunContext, spec: GeneratorSpec) -> tuple[Any, Any]:
    """Return a generator's class and its settings.

    Raises
    ------
    UserError
        If the class and what its package declares as its settings do not belong together.
    """
    where = f"{run.config.source}: recgen.generators"
    kind, model = plugins.load(plugins.GENERATORS, spec.kind, where), plugins.settings_class(spec.kind, where)
    if kind.Config is not model:
        raise UserError(
            f"{title(spec)}, its entry point in {plugins.GENERATOR_SETTINGS}",
            found=f"{model.__module__}.{model.__qualname__}",
            expected=f"the class's own Config, {kind.Config.__module__}.{kind.Config.__qualname__}",
        )
    return kind, model.model_validate(spec.settings)


def check(run: RunContext, name: str) -> list[Path]:
    """Find out before anything is trained whether a generator that reads files of the user's can serve the requests."""
    spec = run.config.generators[name]
    kind, settings = _kind(run, spec)
    with calling(spec, "check"):
        kind.check(settings, run.requests)
    return []


def fit(run: RunContext, name: str) -> list[Path]:
    """Fit one generator on what came before the references and save it to generator/<name>."""
    spec, folder = run.config.generators[name], run.folder / "generator" / name
    folder.mkdir(parents=True, exist_ok=True)
    learner = generator(run, name)
    with calling(spec, "fit"):
        learner.fit(
            run.data, reward=reward_model(run, "reward"), judge=judge_of_generators(run), progress=show
        )
    with calling(spec, "save"):
        learner.save(folder)
        if learner.curves:
            write_json(folder / "curves.json", learner.curves)
    flush()
    return [folder]


class Drawer:
    """A fitted generator of the run at work: it and the reward that it may ask are read once, when they are first needed.

    Parameters
    ----------
    run
        The run.
    name
        The generator's name in it.
    """

    def __init__(self, run: RunContext, name: str) -> None:
        self.run, self.name = run, name

    @cached_property
    def generator(self) -> Any:
        """The generator as `fit` saved it."""
        return fitted(self.run, self.name)

    @cached_property
    def _reward(self) -> LazyRanker:
        return reward_model(self.run, "reward")

    def draw(self, requests: Sequence[Request]) -> list[Creative]:
        """Return what it draws for some requests, one creative each; nothing is written.

        Raises
        ------
        UserError
            For a broken image, or where the generator yields anything else than one whole image for each request, in their
            order.
        """
        spec = self.run.config.generators[self.name]
        with naming_broken(self.name, requests):
            with calling(spec, "generate"):
                yielded = self.generator.generate(requests, self.run.data, reward=self._reward)
            return checked(spec, yielded, requests)


class GeneratorChunks(Chunks):
    """The creatives of a fitted generator."""

    @cached_property
    def asked(self) -> Sequence[Request]:
        """The run's requests; where users share creatives, one a group and item."""
        return groups.drawn_requests(self.run, self.name)

    @cached_property
    def _drawer(self) -> Drawer:
        return Drawer(self.run, self.name)

    def make(self, block: Sequence[Request], shard: str | None) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw and write the images of some requests; errors of `Drawer.draw`."""
        return keep(self.run, self.name, self._drawer.draw(block), shard=shard)


def fitted(run: RunContext, name: str) -> Any:
    """Return a generator of the run as `fit` saved it."""
    learner = generator(run, name)
    with calling(run.config.generators[name], "load"):
        learner.load(run.folder / "generator" / name)
    return learner


def keep(
    run: RunContext,
    name: str,
    made: Sequence[Creative],
    folder: str = "creatives",
    shard: str | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Write creatives' images; return their rows of the manifest and raw embeddings, float32 ``[n, D]``.

    Parameters
    ----------
    run, name, made
        The run, the generator's or control's name in it, and what it has drawn.
    folder
        Below which folder of the run's images are written.
    shard
        The archive below the run's folder that they are packed in instead. Rows then have columns ``offset`` and ``length`` too:
        where in it, in bytes.
    """
    if shard is None:
        rows = pd.DataFrame([write_image(run, name, creative, folder) for creative in made])
        sync(run.folder / path for path in rows["path"])
    else:
        rows = _write_packed(run, name, made, shard)
    return rows, run.models.encoder.images([creative.image for creative in made])


def _write_packed(run: RunContext, name: str, made: Sequence[Creative], shard: str) -> pd.DataFrame:
    """Write images into one archive, each followed by its row of the manifest as JSON, without path and time."""
    rows: dict[str, dict[str, Any]] = {}

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for creative in made:
            image, row = encoded(run, name, creative)
            key = _key(creative.request)
            if key not in rows:
                told = {field: value for field, value in row.items() if field not in ("path", "seconds")}
                told["recipe"] = json.loads(row["recipe"])
                yield key, {"png": image, "json": json.dumps(told, sort_keys=True).encode()}
            rows[key] = row

    places = write_shard(run.folder / shard, samples())
    keys = [_key(creative.request) for creative in made]
    offsets, lengths = zip(*(places[f"{key}.png"] for key in keys), strict=True)
    table = pd.DataFrame([{**rows[key], "path": f"{shard}/{key}.png"} for key in keys])
    return table.assign(offset=np.array(offsets, np.int64), length=np.array(lengths, np.int64))


@contextmanager
def naming_broken(name: str, requests: Sequence[Request]) -> Iterator[None]:
    """Make of a broken image that is drawn in the block a `UserError` that names the request that it was for."""
    try:
        yield
    except BrokenImageError as error:
        pairs = [
            f"user {each.user_id!r}, item {each.item_id!r}" for each in requests if each.seed == error.seed
        ]
        raise UserError(
            f"generator {name}, {' or '.join(pairs) or 'a request'}",
            found=f"an image of {error.problem}",
            expected="finite pixels of more than one colour",
            todo="Where recgen.precision is fp16, set bf16 or float32; else the weights are damaged or do not fit each other.",
        ) from error


def write_image(run: RunContext, name: str, creative: Creative, folder: str) -> dict[str, Any]:
    """Write one image with its recipe inside below a folder of the run's, and return its row of the manifest."""
    image, row = encoded(run, name, creative)
    row["path"] = f"{folder}/images/{name}/{_key(creative.request)}.png"
    write_bytes(run.folder / row["path"], image, durable=False)
    return row


def encoded(run: RunContext, name: str, creative: Creative) -> tuple[bytes, dict[str, Any]]:
    """Return an image as a PNG file with its recipe inside, and its row of the manifest, whose path is yet to be said."""
    request = creative.request
    text = json.dumps(recipe(name, creative), sort_keys=True, ensure_ascii=True)
    image = png(creative, text)
    if is_drawn(run, name):
        image = provenance.stamped(image, text)
    return image, {
        "user_id": request.user_id,
        "item_id": request.item_id,
        "path": "",
        "seed": request.seed,
        "generator": name,
        "recipe": text,
        "sha256": hashlib.sha256(image).hexdigest(),
        "seconds": creative.seconds,
    }


def _key(request: Request) -> str:
    """Return what an image's file is called: tokens may be longer than names, or hold what names may not."""
    return hashlib.blake2b(f"{request.user_id}\x1f{request.item_id}".encode(), digest_size=12).hexdigest()


def is_drawn(run: RunContext, name: str) -> bool:
    """Return whether a trained model draws what the run calls by this name; controls and folders show what there is."""
    spec = run.config.generators.get(name)
    return name == PLACEBO or (spec is not None and spec.kind != "folder")


def recipe(name: str, creative: Creative) -> dict[str, Any]:
    """Return everything that makes a creative again: the generator's name in the run, its request and what it drew from."""
    request = creative.request
    asked = {"generator": name, "user": request.user_id, "item": request.item_id, "seed": request.seed}
    return {**asked, **creative.recipe}


def png(creative: Creative, recipe: str) -> bytes:
    """Return a creative as a PNG file with its recipe, as JSON, in a text chunk."""
    information, buffer = PngInfo(), io.BytesIO()
    information.add_text(RECIPE, recipe)
    creative.image.convert("RGB").save(buffer, format="PNG", pnginfo=information)
    return buffer.getvalue()


def creatives(run: RunContext, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one generator's rows of the manifest and its creatives' raw embeddings, float32 ``[n, D]``, request by request.

    Where users share creatives, a row stands for each user who is shown an image.
    """
    rows, embeddings = drawn(run, name)
    if is_shared(run, name):
        return groups.shared(run, run.requests, rows, embeddings)
    return rows, embeddings


def drawn(run: RunContext, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows and raw embeddings of one generator's creatives as they were drawn, each once."""
    tables = sorted((run.folder / "creatives/shards" / name).glob("*.parquet"))
    if not tables:  # a control that no request has an image for
        return pd.DataFrame(columns=["user_id", "item_id", "path"]), np.zeros(
            (0, run.models.encoder.dim), np.float32
        )
    rows = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    return rows, np.concatenate([read_features(path.with_suffix(".safetensors")) for path in tables])


def collect(run: RunContext) -> list[Path]:
    """Join all generators' shards to creatives/manifest.parquet and embeddings.safetensors.

    Rows follow the generators as the configuration lists them, and within one the requests. How long an image took goes to
    `SECONDS`, so that the manifest of a run that is done again has the same bytes. Where images are packed, `INDEX` says for each
    path the archive, and where in it the image lies.
    """
    folder = run.folder / "creatives"
    tables, embeddings = zip(*(creatives(run, name) for name in run.settings.generators), strict=True)
    outputs = [folder / "embeddings.safetensors", *(run.folder / each for each in (MANIFEST, SECONDS))]
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    if "offset" in table:
        index = table.loc[table["offset"].notna(), ["path", *_PLACE]].drop_duplicates("path")
        index = index.astype(dict.fromkeys(_PLACE, np.int64))
        index.insert(1, "shard", index["path"].str.rpartition("/")[0])
        write_parquet(run.folder / INDEX, index)
        table = table.drop(columns=_PLACE)
        outputs.append(run.folder / INDEX)
    write_features(folder / "embeddings.safetensors", np.concatenate(embeddings))
    write_parquet(run.folder / SECONDS, table[["path", "seconds"]].drop_duplicates("path"))
    write_parquet(run.folder / MANIFEST, table.drop(columns="seconds"))
    return outputs
