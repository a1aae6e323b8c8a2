"""What I-AM-G's experiments share: simulated users of a seed, a fitted generator, and what the truth says of its images."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from generators.iamg import IAMG
from recgen import api as session
from recgen.assets import asset_folder
from recgen.config.loader import load_config
from recgen.data.images import read_image
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import NAMES
from recgen.data.simulation.simulator import Truth
from recgen.data.types import Creative, Request
from recgen.metrics import personalisation, semantics
from recgen.pipeline.context import RunContext
from recgen.stages.generate import generator

RECIPE = Path(__file__).with_name("iamg.yaml")
METRICS = (
    "true_utility_gain",
    "content_preservation",
    "ssim",
    "colour_kept",
    "ground_kept",
    "pattern_kept",
    "cs",
    "cis",
    "cpis",
)


def prepared(work: Path, seed: int, overrides: Sequence[str] = ()) -> RunContext:
    """Return a run of a seed with its data and features made, under changed settings."""
    every = [f"recgen.simulator.seed={seed}", f"recgen.seed={seed}", *overrides]
    folder = work / f"seed{seed}"
    session.run(str(RECIPE), str(folder), every, "features")
    run = RunContext(load_config(str(RECIPE), every), folder)
    run.prepare_torch()
    return run


def fitted(run: RunContext, folder: Path) -> IAMG:
    """Return the run's generator, fitted once and kept in `folder`."""
    made: IAMG = generator(run, "iamg")
    if not (folder / "model.safetensors").exists():
        made.fit(run.data)
        made.save(folder)
    made.load(folder)
    return made


def strangers(run: RunContext, made: IAMG, at_most: int | None = None) -> list[Request]:
    """Return the requests of users that the generator neither learned from nor stopped by."""
    known = {*made.learned["train"], *made.learned["held_out"]}
    return [request for request in run.requests if request.user_id not in known][:at_most]


def opened(given: argparse.Namespace, at_most: int) -> tuple[RunContext, IAMG, Path, list[Request]]:
    """Return the first seed's run, the ablation's I-AM-G, its folder, and requests of users it does not know."""
    work, (seed, *_) = given.work / "iamg", given.seeds
    run, folder = prepared(work, seed), work / f"ablation/{seed}/I-AM-G"
    made = fitted(run, folder)
    return run, made, folder, strangers(run, made, at_most)


def judged(run: RunContext, creatives: Sequence[Creative]) -> pd.DataFrame:
    """Return a row per creative: its true gain in utility over the item's own image, what it keeps, and its likenesses."""
    truth = Truth.load(run.folder / "dataset/simulator")
    reader = AttributeReader.load(asset_folder("attribute-reader"))
    requests = [creative.request for creative in creatives]
    users, items = [each.user_id for each in requests], [each.item_id for each in requests]
    own, shown = truth.attributes_of(items), reader.read([creative.image for creative in creatives])
    gain = truth.utility(users, shown) - truth.utility(users, own)
    table = pd.DataFrame(
        {"user_id": users, "item_id": items, "seed": run.settings.seed, "true_utility_gain": gain}
    )
    table["content_preservation"] = (shown[:, 0] == own[:, 0]).astype(float)
    for column, name in enumerate(NAMES[1:], start=1):
        table[f"{name}_kept"] = (shown[:, column] == own[:, column]).astype(float)
    table["ssim"] = _ssim(run, creatives)
    table[["cs", "cis", "cpis"]] = _likeness(run, creatives)
    table["seconds"] = [creative.seconds for creative in creatives]
    return table


def _ssim(run: RunContext, creatives: Sequence[Creative]) -> np.ndarray:
    paths = [run.data.images[run.data.item_rows[creative.request.item_id]] for creative in creatives]
    original = np.stack([np.asarray(read_image(path)) for path in paths if path is not None])
    made = np.stack([np.asarray(creative.image) for creative in creatives])
    rows = np.arange(len(made))
    return semantics.ssim_pairs(made, original, rows, rows)


def _likeness(run: RunContext, creatives: Sequence[Creative]) -> np.ndarray:
    """Return cs, cis and cpis of each creative, ``[n, 3]``."""
    data, made = run.data, run.models.encoder.images([creative.image for creative in creatives])
    rows = [data.item_rows[creative.request.item_id] for creative in creatives]
    histories = [[data.item_rows[token] for token in creative.request.history] for creative in creatives]
    return np.column_stack([
        semantics.cs(made, data.text_features[rows]),
        semantics.cis(made, data.image_features[rows]),
        personalisation.cpis(made, data.image_features, histories),
    ])  # fmt: skip


class Seconds:
    """CPU seconds of a block, which other work on the machine does not lengthen."""

    def __enter__(self) -> Seconds:
        self.cpu = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self.cpu
