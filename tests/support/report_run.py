"""A run folder as the stages leave it, small, with images drawn here."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from recgen.metrics import personalisation, semantics, statistics
from recgen.metrics.contrasts import contrasts, corrected
from recgen.metrics.permutation import permutation_within_items
from recgen.metrics.registry import BY_KEY

ITEMS, USERS, WIDTH = 40, 30, 8
HOSTILE = '<script>alert("x")</script> Amélie & "Ωmega" 映画 \x00\u202e'


def draw(path: Path, seed: int) -> None:
    """An image of two coloured shapes."""
    rng = np.random.default_rng(seed)
    ground, shape = (tuple(int(part) for part in rng.integers(40, 255, 3)) for _ in range(2))
    image = Image.new("RGB", (64, 64), ground)
    ImageDraw.Draw(image).ellipse((12, 12, 20 + seed % 30, 52), fill=shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_run(
    folder: Path,
    generators: tuple[str, ...] = ("rebeca",),
    downstream: bool = True,
    texts: dict[int, str] | None = None,
    without_history: tuple[int, ...] = (),
    without_image: tuple[int, ...] = (3,),
    seed: int = 5,
) -> Path:
    """Write every file of a finished run; users and items are u0.. and i0.., user k's reference is item k."""
    rng = np.random.default_rng(seed)
    features = _dataset(folder, rng, texts or {}, without_history, without_image)
    before = rng.integers(0, ITEMS, USERS)
    parts = [_creatives(folder, generator, before, features, rng) for generator in generators]
    per_request = pd.concat([table for table, _ in parts], ignore_index=True)
    per_request.to_parquet(folder / "per_request.parquet")
    manifest = per_request[["user_id", "item_id", "generator"]].assign(
        path=[f"creatives/images/{g}/{u}.png" for g, u in per_request[["generator", "user_id"]].to_numpy()]
    )
    manifest.to_parquet(folder / "creatives/manifest.parquet")
    save_file(
        {"features": np.concatenate([made for _, made in parts])}, folder / "creatives/embeddings.safetensors"
    )
    _training(folder, generators)
    metrics = _metrics(per_request, generators, downstream, rng)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "config.yaml").write_text("dataset: toy\nrecgen: {gallery: 22, seed: 5}\n", encoding="utf-8")
    return folder


def _dataset(folder, rng, texts, without_history, without_image) -> np.ndarray:
    for item in range(ITEMS):
        draw(folder / f"dataset/images/{item}.png", item)
    images = [None if k in without_image else f"dataset/images/{k}.png" for k in range(ITEMS)]
    names = [texts.get(k, f"The film number {k}, a drama of {1960 + k}") for k in range(ITEMS)]
    tokens = [f"i{k}" for k in range(ITEMS)]
    pd.DataFrame({"item_id": tokens, "text": names, "image": images}).to_parquet(
        folder / "dataset/items.parquet"
    )
    requests = pd.DataFrame(
        {"user_id": [f"u{k}" for k in range(USERS)], "item_id": tokens[:USERS], "seed": range(USERS)}
    )
    liked = [[f"i{(k + step) % ITEMS}" for step in range(1, 4 + k % 15)] for k in range(USERS)]
    requests["history"] = [[] if k in without_history else items for k, items in enumerate(liked)]
    requests.to_parquet(folder / "dataset/requests.parquet")
    bad = [{"item_id": f"i{k}", "file": f"posters/i{k}.jpg", "reason": "truncated"} for k in without_image]
    (folder / "dataset/bad_images.json").write_text(json.dumps(bad), encoding="utf-8")
    known = [row for row, image in enumerate(images) if image]
    (folder / "features").mkdir(parents=True)
    features = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32) + 1
    save_file({"features": features[known]}, folder / "features/image.safetensors")
    (folder / "features/image.ids.txt").write_text("".join(f"i{row}\n" for row in known), encoding="utf-8")
    features[list(without_image)] = np.nan
    return features


def _creatives(folder, generator, before, features, rng) -> tuple[pd.DataFrame, np.ndarray]:
    for user in range(USERS):
        draw(folder / f"creatives/images/{generator}/u{user}.png", 1000 * len(generator) + user)
    after = np.clip(before - rng.integers(-4, 8, USERS), 0, ITEMS - 1)
    judge, reward = personalisation.delta_r(before, after), rng.normal(0.2, 0.3, USERS)
    made = (np.nan_to_num(features[:USERS], nan=1.0) + rng.normal(size=(USERS, WIDTH))).astype(np.float32)
    table = pd.DataFrame(
        {
            "user_id": [f"u{k}" for k in range(USERS)],
            "item_id": [f"i{k}" for k in range(USERS)],
            "generator": generator,
            "rank_original_judge": before,
            "rank_creative_judge": after,
            "risen_judge": personalisation.risen(before, after),
            "percentile_gain_judge": personalisation.percentile_gain(before, after, ITEMS),
            "reciprocal_rank_gain_judge": personalisation.reciprocal_rank_gain(before, after),
            "delta_r_judge": judge,
            "delta_r_reward": reward,
            "over_optimisation_gap": reward - judge,
            "cis": semantics.cis(made, features[:USERS]),
            "cpis": rng.normal(60, 5, USERS),
            "verifier_score": rng.uniform(size=USERS),
        }
    )
    return table, made


def _training(folder, generators) -> None:
    epochs = [
        {"epoch": k, "seconds": 1.0, "losses": [1 / (k + 1), 0.1], "valid": {"ndcg@10": k / 20}}
        for k in range(9)
    ]
    for role in ("reward", "judge"):
        path = folder / f"ranker/{role}/training.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps({"epochs": epochs, "valid": {"ndcg@10": 0.4}, "seconds": 9.0}), encoding="utf-8"
        )
    for generator in generators:
        path = folder / f"generator/{generator}/curves.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"loss": [[k, 2 / (k + 1)] for k in range(30)]}), encoding="utf-8")
    for task, seconds in {"dataset": 2.5, "ranker.judge": 65.0, "generate": 31.0}.items():
        path = folder / f"stages/{task}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"fingerprint": "0", "seconds": seconds, "outputs": []}), encoding="utf-8")


def _means(rows) -> dict:
    return {
        key: statistics.bootstrap_mean(rows[key], rows["user_id"].to_numpy(), 0).as_json()
        for key in BY_KEY
        if key in rows
    }


def _controls(per_request, generators, rng) -> tuple[dict, dict]:
    """Other users' creatives, which do a little worse, by whoever drew them; and the original, a constant and a placebo."""
    first = per_request[per_request["generator"] == generators[0]].reset_index(drop=True)

    def moved(by: float, spread: float = 0.05):
        noise = by + spread * rng.normal(size=len(first))
        return first.assign(
            percentile_gain_judge=noise, risen_judge=(noise > 0).astype(float), delta_r_judge=noise
        )

    names = [*generators, "control.placebo"]
    shown = {
        "control.original": moved(0.0, 0.0),
        "control.constant": moved(0.3),
        "control.placebo": moved(0.05),
    }
    return {name: moved(0.0) for name in names}, shown


def _metrics(per_request, generators, downstream, rng) -> dict:
    groups = {name: per_request[per_request["generator"] == name] for name in generators}
    creatives = {
        name: _means(rows) | {"cmmd": {"value": 0.68, "low": 0.61, "high": 0.75, "n": USERS}}
        for name, rows in groups.items()
    }
    scores = rng.uniform(size=(USERS, USERS)) + 0.3 * np.eye(USERS)
    permutation = permutation_within_items([scores], 0, 200).as_json()
    paired = []
    for a, b in pairwise(generators):
        result = statistics.paired_difference(
            groups[a]["cpis"], groups[b]["cpis"], groups[a]["user_id"].to_numpy(), 0
        )
        paired.append(result.as_json(a, b, "cpis"))
    others, shown = _controls(per_request, generators, rng)
    found = list(contrasts(groups, others, shown, "control.placebo", 0))
    sources = {}
    if downstream:
        runs = {source: rng.normal(0.06, 0.002, 5) for source in ("ORI", *generators)}
        sources = {
            source: {"ndcg@10": statistics.seed_mean(values).as_json()} for source, values in runs.items()
        }
        paired += [
            statistics.paired_seeds(runs[g], runs["ORI"]).as_json(g, "ORI", "ndcg@10") for g in generators
        ]
    tests = corrected([*found, *paired])
    return {
        "creatives": creatives,
        "controls": {
            name: _means(table)
            for name, table in {**shown, **{f"swapped.{g}": table for g, table in others.items()}}.items()
        },
        "downstream": sources,
        "tests": {
            "permutation": dict.fromkeys(generators, permutation),
            "contrasts": tests[: len(found)],
            "paired": tests[len(found) :],
        },
        "unavailable": {"fid": "its weights are not here; copy them"},
        "run": {
            "dataset": "toy",
            "users": USERS,
            "items": ITEMS,
            "requests": USERS,
            "seed": 5,
            "same_judge": False,
        },
    }


def metrics_of(folder: Path) -> dict:
    """Return what a run's metrics.json says."""
    return json.loads((folder / "metrics.json").read_text())
