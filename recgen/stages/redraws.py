"""The features stage's redraws: what the ranking models learn from beside the items' own images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from recgen.core.io import write_features
from recgen.core.seeding import seed_for
from recgen.data.images import read_image
from recgen.diffusion.redrawing import redraw
from recgen.diffusion.sampling import Sampling
from recgen.pipeline.context import RunContext, of_judge
from recgen.stages.features import in_shards

WEAKEST, STRONGEST = 0.3, 0.7
"""Strengths of image-to-image of the first and of the last redraw: attributes survive in 97 of 100 (experiments/instruments)."""
SAMPLING = Sampling(steps=10, sampler="dpm++2m", guidance_scale=1)
_SHARD = 256  # items of which a kill can cost the redraws


def redraw_items(run: RunContext) -> list[Path]:
    """Redraw every item's image `ranker.redraws` times, and write the redraws' raw embeddings by each encoder of the run.

    An item's id stands in features/redraws.ids.txt once for each of its redraws. Where the pipeline has an IP-Adapter it is shown
    the image's own embedding, so that the style remains which the item's text does not name.
    """
    ids, own = run.features("image")
    count = run.settings.ranker.redraws
    encoders = [run.models.encoder, *run.models.judge_encoders]

    def encode(rows: Sequence[int]) -> np.ndarray:
        images = drawings(run, [ids[row] for row in rows], own[list(rows)])
        return np.hstack([encoder.images(images) for encoder in encoders])

    folder, widths = run.folder / "features", [encoder.dim for encoder in encoders]
    shards = folder / "redrawn/{}.safetensors"
    both = in_shards(range(len(ids)), encode, _SHARD, shards, "redraws", sum(widths))
    outputs = []
    names = ["redraws", *(of_judge("redraws", member) for member in range(len(run.models.judge_encoders)))]
    for name, part in zip(names, np.split(both, np.cumsum(widths)[:-1], axis=1), strict=True):
        path = folder / f"{name}.safetensors"
        write_features(path, part, [token for token in ids for _ in range(count)])
        outputs += [path, path.with_suffix(".ids.txt")]
    shutil.rmtree(shards.parent, ignore_errors=True)
    return outputs


def drawings(run: RunContext, items: Sequence[str], embeddings: np.ndarray) -> list[Image.Image]:
    """Return the redraws of items' images, item by item; `embeddings` are the images' own, float32 ``[n, D]``."""
    settings, known = run.settings, run.items.set_index("item_id").loc[list(items)]
    images = [read_image(path) for path in map(run.image, known["image"]) if path is not None]
    texts = known["text"].tolist()
    shown = None if settings.ip_adapter is None else embeddings
    drawn = []
    for number, strength in enumerate(np.linspace(WEAKEST, STRONGEST, settings.ranker.redraws)):
        seeds = [seed_for(settings.seed, f"redraw {number}", item=item) for item in items]
        drawn.append(
            list(redraw(run.models.backbone, images, texts, seeds, float(strength), SAMPLING, shown))
        )
    return [image for row in zip(*drawn, strict=True) for image in row]
