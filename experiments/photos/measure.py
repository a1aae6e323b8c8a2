"""Do real eyes rank better than the demo's? MICRO and VBPR on demo-clip, and on EfficientNet-Lite0 with WordLlama's texts.

    python experiments/photos/measure.py CONFIG RESULT.json [--least 20] [--seeds 3]

CONFIG is a configuration as `recgen init` writes it, of real photographs. Items with fewer than --least interactions are left
out, with their interactions. Every model is trained on each source of features with the same seeds; measured is Recall@10 over
all items of each user's last like, the mean over seeds, with percentile intervals over users and the paired difference. Two
controls: the photographs' features dealt out to other items, and none (every item the mean).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ranking_models.what_if.substitute import SubstituteWhatIf
from recgen.config.loader import load_config
from recgen.core.io import read_features, write_features, write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.atomic import read_atomic
from recgen.features import efficientnet
from recgen.features.wordllama import WordLlama
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole
from recgen.recommender.training import train

MODELS = ("MICRO", "VBPR")
CUTOFF, DRAWS = 10, 10_000


def reduced(config: str, least: int, place: Path) -> list[str]:
    """Write the data set without rare items into a folder; return the overrides that read it."""
    run = RunContext(load_config(config), place / "probe")
    name = run.config.recbole["dataset"]
    folder = place / name
    folder.mkdir()
    log = read_atomic(run.source / f"{name}.inter", "\t", ["user_id", "item_id"])
    counts = log["item_id"].value_counts()
    kept = set(counts[counts >= least].index)
    for ending in ("inter", "item"):
        header, *rows = (run.source / f"{name}.{ending}").read_text(encoding="utf-8").splitlines()
        column = [field.partition(":")[0] for field in header.split("\t")].index("item_id")
        lines = [header, *(row for row in rows if row.split("\t")[column] in kept)]
        (folder / f"{name}.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"data_path={place}"]


def sources(run: RunContext) -> dict[str, dict[str, str]]:
    """Write the features of every source; return RecBole's `item_features` for each."""
    ids, clip = run.features("image")
    texts = run.items.set_index("item_id").loc[ids, "text"].tolist()
    files = [run.folder / run.items.set_index("item_id").loc[token, "image"] for token in ids]
    seen = efficientnet.load("cpu", "photos").files(files)
    told = WordLlama("photos").texts(texts)
    order = numpy_rng(0, "photos shuffled").permutation(len(ids))
    none = np.repeat(seen.mean(axis=0, keepdims=True), len(ids), axis=0)
    clip_text = read_features(run.folder / "features/text.safetensors")
    values = {
        "demo-clip": (clip, clip_text),
        "photos": (seen, told),
        "photos, shuffled": (seen[order], told[order]),
        "no features": (none, np.repeat(told.mean(axis=0, keepdims=True), len(ids), axis=0)),
    }
    found = {}
    for name, (images, words) in values.items():
        folder = run.folder / f"sources/{name.replace(', ', '-').replace(' ', '-')}"
        write_features(folder / "image.safetensors", images, ids)
        write_features(folder / "text.safetensors", words, ids)
        found[name] = {kind: str((folder / f"{kind}.safetensors").resolve()) for kind in ("image", "text")}
    return found


def hits(run: RunContext, model: str, features: dict[str, str], seed: int) -> np.ndarray:
    """Train a model; return for each test interaction whether it is among the ten best of all items, float64 ``[n]``."""
    extra = {"seed": seed_for(seed, "photos", model) % 2**31, "item_features": features}
    config = run.recbole_config(model, extra)
    data = recbole.loaders(config, run.split)
    run.prepare_torch()
    trained = train(config, data).model
    known, test = data.train.dataset, run.split.test.inter_feat
    users, items = test[known.uid_field], test[known.iid_field]
    places = SubstituteWhatIf(trained, known).rank_original(users.long(), items.long())
    return (places < CUTOFF).double().cpu().numpy()


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the mean over users and its 95% percentile interval, of values ``[n]``."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {"value": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def main() -> None:
    """Measure one configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("result", type=Path)
    parser.add_argument("--least", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        overrides = reduced(given.config, given.least, Path(place))
        run = RunContext(load_config(given.config, ["recgen.threads=1", *overrides]), Path(place) / "run")
        pipeline.execute(run, until="features", goals={"features"})
        found: dict[str, Any] = {"items": len(run.items), "users": run.interactions["user_id"].nunique()}
        features = sources(run)
        for model in MODELS:
            by_source = {
                name: np.mean([hits(run, model, paths, seed) for seed in range(given.seeds)], axis=0)
                for name, paths in features.items()
            }
            found[model] = {name: interval(values) for name, values in by_source.items()}
            for other in ("demo-clip", "photos, shuffled", "no features"):
                found[model][f"photos less {other}"] = interval(by_source["photos"] - by_source[other])
            print(model, json.dumps(found[model], indent=1), flush=True)
    write_json(given.result, {"seeds": given.seeds, "least": given.least, **found})


if __name__ == "__main__":
    main()
