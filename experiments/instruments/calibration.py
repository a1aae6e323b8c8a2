"""How far can a judge be believed? Within a request, judge's score and truth over images that differ in one thing.

``python -m experiments.instruments.calibration --work FOLDER`` takes finished runs of order.yaml in FOLDER (order.py makes them),
one a seed, and asks judges about kinds of images of an item for one user:

- *conditions*: eight styles said in the prompt, one noise;
- *noises*: eight noises under one style said in the prompt;
- *open noises*: eight noises under the item's own text, which leaves the style to them;
- *generators*: what the run's generators made of the request;
- *users*: what a generator made of the item for this user and for its other users; the mean over generators.

The truth is the simulated user's utility of what the attribute reader sees, by its choice and, *graded*, as the mean under its
probabilities. Values are correlations of deviations from the request's mean, pooled over requests; intervals are over users.
Judges are trained on the judge's half, as the run's own is: by encoder, with redraws, and as means of standardised scores.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from experiments import harness
from recgen.assets import FOLDER, asset_folder
from recgen.config.loader import load_config
from recgen.core.io import write_features, write_parquet
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.images import read_image
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import SIZES, Attributes, caption
from recgen.data.simulation.simulator import Truth
from recgen.diffusion.backbone import Condition
from recgen.diffusion.redrawing import redraw
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import ImageEncoder
from recgen.features.vision import load_image_encoder
from recgen.metrics.calibration import within_requests
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole
from recgen.recommender.reward import Ranker
from recgen.recommender.splits import half
from recgen.recommender.training import train
from recgen.stages.generate import creatives
from recgen.stages.ranker import feedback_config, feedback_splits, is_pointwise, item_features

HERE = Path(__file__).parent
SEEDS = (11, 12, 13)
REQUESTS, EACH = 20, 8
ENCODERS, BOTH = ("demo-clip", "demo-resnet"), "both side by side"
TRAININGS, STRENGTHS = 3, (0.3, 0.5, 0.7)
REDRAWS = len(STRENGTHS)
MICRO = {
    "epochs": 8,
    "eval_step": 2,
    "train_batch_size": 4096,
    "learning_rate": 5e-3,
    "contrastive_items": 256,
}
"""As in the other experiments on simulated users."""
DECODE = Sampling(steps=6, sampler="dpm++2m", guidance_scale=3)


@dataclass(frozen=True)
class Shown:
    """Images of one kind: for each the request's group, the user and item that it is judged for, and the image."""

    groups: list[str]
    users: list[str]
    items: list[str]
    images: list[Image.Image]


def prompted(run: RunContext, kind: str) -> Shown:
    """Draw images for some of the run's requests that differ in the style said or in their noise; see the module."""
    truth, drawn = Truth.load(run.folder / "dataset/simulator"), []
    requests = _some(run)
    for request in requests:
        motif = int(truth.attributes_of([request.item_id])[0, 0])
        rng = numpy_rng(run.settings.seed, "calibration styles", request.user_id, request.item_id)
        looks = [Attributes(motif, *(int(rng.integers(size)) for size in SIZES[1:])) for _ in range(EACH)]
        text = run.data.texts[run.data.item_rows[request.item_id]]
        for number, look in enumerate(looks):
            own = seed_for(run.settings.seed, f"calibration noise {number}", request.user_id, request.item_id)
            drawn.append({
                "conditions": Condition(request.seed, caption(look)),
                "noises": Condition(own, caption(looks[0])),
                "open noises": Condition(own, text),
            }[kind])  # fmt: skip
    asked = [request for request in requests for _ in range(EACH)]
    users, items = [each.user_id for each in asked], [each.item_id for each in asked]
    images = _kept(
        run.folder / f"calibration/images/{kind}",
        lambda: run.models.backbone.generate(drawn, DECODE),
        len(drawn),
    )
    return Shown([f"{user}/{item}" for user, item in zip(users, items, strict=True)], users, items, images)


def _some(run: RunContext) -> list[Any]:
    """Return every other request, so that all items take part."""
    return run.requests[:: max(1, len(run.requests) // REQUESTS)][:REQUESTS]


def _kept(folder: Path, draw: Any, count: int) -> list[Image.Image]:
    """Return images of a folder, drawn first where they are not there."""
    paths = [folder / f"{number:05d}.png" for number in range(count)]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths, draw(), strict=True):
            image.save(path)
    return [read_image(path) for path in paths]


def of_generators(run: RunContext) -> Shown:
    """Return every generator's creative of every request; a request is a group."""
    tables = [creatives(run, name)[0] for name in run.settings.generators]
    rows = pd.concat(tables, ignore_index=True)
    groups = (rows["user_id"] + "/" + rows["item_id"]).tolist()
    return Shown(groups, rows["user_id"].tolist(), rows["item_id"].tolist(), _read(run, rows["path"]))


def of_users(run: RunContext) -> Shown:
    """Return, for each request and generator, the generator's creatives of the item for all of its users."""
    frames = []
    for name in run.settings.generators:
        made = creatives(run, name)[0][["user_id", "item_id", "path"]]
        if made.groupby("item_id")["path"].nunique().max() > 1:
            pairs = made.merge(made[["item_id", "path"]], on="item_id", suffixes=("_own", ""))
            frames.append(pairs.assign(group=name + "/" + pairs["user_id"] + "/" + pairs["item_id"]))
    rows = pd.concat(frames, ignore_index=True)
    return Shown(
        rows["group"].tolist(), rows["user_id"].tolist(), rows["item_id"].tolist(), _read(run, rows["path"])
    )


def _read(run: RunContext, paths: pd.Series) -> list[Image.Image]:
    found = {path: read_image(run.folder / path) for path in paths.unique()}
    return [found[path] for path in paths]


KINDS = {
    "conditions": lambda run: prompted(run, "conditions"),
    "noises": lambda run: prompted(run, "noises"),
    "open noises": lambda run: prompted(run, "open noises"),
    "generators": of_generators,
    "users": of_users,
}


class Truths:
    """The truth of images, by the attribute reader's choice and graded by its probabilities."""

    def __init__(self, run: RunContext) -> None:
        self.truth = Truth.load(run.folder / "dataset/simulator")
        self.reader = AttributeReader.load(asset_folder("attribute-reader"))

    def of(self, shown: Shown) -> dict[str, np.ndarray]:
        """Return float64 ``[n]`` by name."""
        parts = self.reader.probabilities(shown.images)
        choice = np.stack([part.argmax(axis=1) for part in parts], axis=1)
        return {"truth": self.truth.utility(shown.users, choice), "graded": self._graded(shown.users, parts)}

    def _graded(self, users: Sequence[str], parts: list[np.ndarray]) -> np.ndarray:
        rows = np.array([self.truth._user_rows()[user] for user in users])
        style = self.truth.style[rows, 0]
        looks = np.concatenate(parts[1:], axis=1)
        return (
            self.truth.intercept[rows] + (self.truth.content[rows] * parts[0]).sum(1) + (style * looks).sum(1)
        )


class CombinedEncoder:
    """Several encoders as one: each one's embedding at length 1, side by side, so that none counts for more by its numbers.

    Parameters
    ----------
    encoders
        What is combined, one or more.
    """

    def __init__(self, encoders: Sequence[ImageEncoder]) -> None:
        self.encoders = list(encoders)

    @property
    def name(self) -> str:
        """Their names."""
        return " + ".join(encoder.name for encoder in self.encoders)

    @property
    def dim(self) -> int:
        """Width D of the embeddings."""
        return sum(encoder.dim for encoder in self.encoders)

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return image embeddings, float32 ``[n, D]``, of RGB images."""
        return _side_by_side([encoder.images(images) for encoder in self.encoders])

    def files(self, paths: Sequence[Path], batch_size: int = 64) -> np.ndarray:
        """Return image embeddings, float32 ``[n, D]``, of image files."""
        return _side_by_side([encoder.files(paths, batch_size) for encoder in self.encoders])


def _side_by_side(blocks: Sequence[np.ndarray]) -> np.ndarray:
    lengths = (np.linalg.norm(block, axis=1, keepdims=True) for block in blocks)
    return np.hstack(
        [block / np.maximum(length, 1e-12) for block, length in zip(blocks, lengths, strict=True)]
    )


class Judges:
    """The judges of one run: trained once each, asked about any images."""

    def __init__(self, run: RunContext) -> None:
        self.run, self.folder = run, run.folder / "calibration"
        found = {name: load_image_encoder(_spec(name), "cpu", "encoder") for name in ENCODERS}
        self.encoders: dict[str, Any] = {**found, BOTH: CombinedEncoder(list(found.values()))}
        self._embedded: dict[tuple[str, str], np.ndarray] = {}

    def redrawn(self) -> list[Image.Image]:
        """Return the redraws of every item's image, item by item, REDRAWS each."""
        run = self.run
        items = run.items[run.items["image"].notna()]
        images = [read_image(run.folder / path) for path in items["image"]]
        embeddings = run.features("image")[1]

        def draw() -> Iterator[Image.Image]:
            made = [
                list(
                    redraw(
                        run.models.backbone, images, items["text"].tolist(),
                        [seed_for(run.settings.seed, f"redraw {n}", item=item) for item in items["item_id"]],
                        strength, Sampling(steps=10, sampler="dpm++2m", guidance_scale=1), embeddings,
                    )
                )
                for n, strength in enumerate(STRENGTHS)
            ]  # fmt: skip
            return (image for row in zip(*made, strict=True) for image in row)

        return _kept(self.folder / "redraws", draw, len(images) * REDRAWS)

    def scores(
        self, model: str, encoder: str, seed: int, redraws: bool, shown: dict[str, Shown]
    ) -> dict[str, np.ndarray]:
        """Train one judge and return its scores of every kind of images."""
        run = self.run
        paths = self.features(encoder, redraws)
        extra: dict[str, Any] = {
            "seed": seed_for(run.settings.seed, "ranker judge", str(seed) if seed else "") % 2**31,
            "item_features": item_features(run, paths[0]),
        }
        if redraws:
            extra["image_redraws"] = str(paths[1])
        pointwise = is_pointwise(run, model)
        extra |= {} if pointwise else MICRO
        config = feedback_config(run, model, extra) if pointwise else run.recbole_config(model, extra)
        parts = feedback_splits(run, model) if pointwise else run.split
        ranker, _ = self.trained(config, parts, "label" if pointwise else None)
        return {
            kind: ranker.score(each.users, each.items, self.embedded(encoder, kind, each))
            .double()
            .cpu()
            .numpy()
            for kind, each in shown.items()
        }

    def trained(self, config: Any, parts: recbole.DatasetSplits, label: str | None) -> tuple[Ranker, float]:
        """Train a model on the judge's half of the data, of likes and dislikes by their `label`; return it and its seconds."""
        data = recbole.loaders(config, parts, half(self.run.settings.seed, parts, "judge", label))
        self.run.prepare_torch()
        found = train(config, data)
        return Ranker(found.model, data.train.dataset), found.record["seconds"]

    def features(self, encoder: str, redraws: bool) -> tuple[Path, Path]:
        """Write and return the encoder's features of the items' images and, where they are asked for, of their redraws."""
        run = self.run
        items = run.items[run.items["image"].notna()]
        ids = items["item_id"].tolist()
        own, drawn = (
            self.folder / f"{encoder.replace(' ', '-')}.{name}.safetensors" for name in ("image", "redraws")
        )
        if not own.exists():
            write_features(
                own, self.encoders[encoder].files([run.folder / path for path in items["image"]]), ids
            )
        if redraws and not drawn.exists():
            rows = self.encoders[encoder].images(self.redrawn())
            write_features(drawn, rows, [item for item in ids for _ in range(REDRAWS)])
        return own, drawn

    def embedded(self, encoder: str, kind: str, shown: Shown) -> np.ndarray:
        """Return embeddings of images of a kind; each image is encoded once."""
        if (encoder, kind) not in self._embedded:
            keys = [hashlib.blake2b(image.tobytes()).hexdigest() for image in shown.images]
            distinct = dict(zip(keys, shown.images, strict=True))
            rows = {key: row for row, key in enumerate(distinct)}
            images = list(distinct.values())
            found = np.concatenate([
                self.encoders[encoder].images(images[start : start + 128]) for start in range(0, len(images), 128)
            ])  # fmt: skip
            self._embedded[encoder, kind] = found[[rows[key] for key in keys]]
        return self._embedded[encoder, kind]


RESNET: list[str] = []


def _spec(name: str) -> str:
    return RESNET[0] if RESNET and name == "demo-resnet" else name


def measured(run: RunContext, redraws: Sequence[bool]) -> dict[str, pd.DataFrame]:
    """Return a table per kind: a row per image with its group, user, the truths and every judge's score; and keep them."""
    shown = {kind: make(run) for kind, make in KINDS.items()}
    truths, judges = Truths(run), Judges(run)
    tables = {
        kind: pd.DataFrame({"group": each.groups, "user": each.users, **truths.of(each)})
        for kind, each in shown.items()
    }
    for name, members in arms(judges, shown, redraws):
        for kind in KINDS:
            tables[kind][name] = np.mean([_standard(scores[kind]) for scores in members], axis=0)
            write_parquet(run.folder / f"calibration/{kind}.parquet", tables[kind])
        print(run.settings.seed, name, flush=True)
    return tables


def kept(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables that a seed's run has kept."""
    return {kind: pd.read_parquet(folder / f"calibration/{kind}.parquet") for kind in KINDS}


def arms(
    judges: Judges, shown: dict[str, Shown], redraws: Sequence[bool]
) -> Iterator[tuple[str, list[dict[str, np.ndarray]]]]:
    """Yield every judge by name, as the scores of its members, of which it is the mean."""
    for drawn in redraws:
        ending = ", redraws" if drawn else ""
        trained = {
            encoder: [judges.scores("Verifier", encoder, seed, drawn, shown) for seed in range(TRAININGS)]
            for encoder in (*ENCODERS, BOTH)
        }
        for encoder, members in trained.items():
            yield f"Verifier, {encoder}{ending}", members[:1]
            yield f"Verifier, {encoder}, mean of {TRAININGS} trainings{ending}", members
        ones = [trained[encoder][0] for encoder in ENCODERS]
        yield f"Verifier, mean of one training of each encoder{ending}", ones
    for encoder in (*ENCODERS, BOTH):
        yield f"MICRO, {encoder}", [judges.scores("MICRO", encoder, 0, False, shown)]


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() or 1.0)


def main() -> None:
    """Measure every seed's run and write calibration.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--no-redraws", action="store_true", help="leave the judges with redraws out")
    parser.add_argument("--only-collect", action="store_true", help="from the tables that runs have kept")
    parser.add_argument("--resnet", help="a folder in place of the shipped demo-resnet")
    given = parser.parse_args()
    RESNET.extend([given.resnet] if given.resnet else [])
    found: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
    for seed in given.seeds:
        folder = given.work / f"order{seed}"
        if given.only_collect:
            tables = kept(folder)
        else:
            run = RunContext(load_config(str(folder / "config.yaml")), folder)
            run.prepare_torch()
            tables = measured(run, [False] if given.no_redraws else [False, True])
        for kind, table in tables.items():
            named = {name: f"{seed}/" + table[name] for name in ("user", "group")}
            found[kind].append(table.assign(**named))
    pooled = {kind: pd.concat(tables, ignore_index=True) for kind, tables in found.items()}
    names = [name for name in pooled["noises"] if name not in ("group", "user", "truth", "graded")]
    result: dict[str, Any] = {"seeds": given.seeds, "requests": REQUESTS, "judges": {}}
    for name in names:
        result["judges"][name] = {
            kind: {
                truth: within_requests(t["group"], t["user"], t[name], t[truth], seed=0).as_json()
                for truth in ("truth", "graded")
            }
            for kind, t in pooled.items()
        }
    for folder in (HERE, FOLDER):  # the second is what reports read
        harness.save(result, folder / "calibration.json")


if __name__ == "__main__":
    main()
