"""The evaluate stage, first half: every metric of every creative of one generator or control, by itself.

They go into evaluation/<generator>.parquet and .json, so that one more generator costs one more measurement;
`recgen.stages.evaluate` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from scipy.special import expit

from recgen.core.errors import UserError
from recgen.core.io import write_json, write_parquet
from recgen.core.seeding import seed_for
from recgen.metrics import distribution, networks, personalisation, semantics, statistics
from recgen.metrics.permutation import permutation_within_items
from recgen.pipeline.context import RunContext
from recgen.recommender.reward import RewardModel
from recgen.stages.creative_batch import CreativeBatch, load
from recgen.stages.gate import FLAT
from recgen.stages.likeness import by_clip
from recgen.stages.ranker import reward_model
from recgen.stages.vlm_judge import by_vlm

LONGEST_EDGE = 128  # pixels at which SSIM and LPIPS compare images that are larger
SQUARES = 2048  # items' images that are kept at that size: 100 MB
SCORES_AT_ONCE = 2**24  # of users and items: bounds memory
BLOCK = 64  # creatives compared with their histories at once: bounds memory

Columns = dict[str, Any]


def measure(run: RunContext, name: str) -> list[Path]:
    """Measure the creatives of one generator or control.

    Raises
    ------
    UserError
        If a generator's creative is of a single colour or its embedding is not finite: see `check_creatives`.
    """
    made = load(run, name)
    folder = run.folder / "evaluation"
    columns, sets, more = _measured_columns(run, made) if made.users else ({}, {}, {"permutation": None})
    table = pd.DataFrame({"user_id": made.users, "item_id": made.items, "generator": name, **columns})
    write_parquet(folder / f"{name}.parquet", table)
    write_json(folder / f"{name}.json", {"set": sets, **more})
    return [folder / f"{name}.parquet", folder / f"{name}.json"]


def _measured_columns(run: RunContext, made: CreativeBatch) -> tuple[Columns, dict[str, Any], dict[str, Any]]:
    """Return values per creative, metrics of the set, and what else is said of them: a test, and what a service was asked."""
    if made.name in run.settings.generators:
        check_creatives(made)
    columns = {**by_rankers(run, made), **by_clip(run, made), **by_pixels(run, made), **by_truth(run, made)}
    verifier, permutation = by_verifier(run, made)
    preference, lean, asked = by_vlm(run, made)
    more = {"permutation": permutation, **({"vlm": asked} if asked else {})}
    return columns | verifier | preference, as_sets(run, made) | lean, more


def check_creatives(made: CreativeBatch) -> None:
    """Raise `UserError` for an image that is none, naming its request.

    A black image rises in the list of a recommender that has never seen one, so that a broken network would pass for a good
    generator.
    """
    for row, path in enumerate(made.paths):
        spans = np.ptp(np.asarray(_open(path)), axis=(0, 1))
        finite = bool(np.isfinite(made.embeddings[row]).all())
        if finite and spans.max() > FLAT:
            continue
        raise UserError(
            f"generator {made.name}, user {made.users[row]!r}, item {made.items[row]!r}",
            found="an image of a single colour" if finite else "an embedding that is not finite",
            expected="an image that shows something",
            todo=f"Look at {path.name} and at what drew it: weights, precision, or the folder that it came from.",
        )


def by_rankers(run: RunContext, made: CreativeBatch) -> Columns:
    """Rank changes by judge and by reward, and what lies between them (section 6: Delta R)."""
    columns: Columns = {}
    for role in ("judge", "reward"):
        found = _asked(run, made, role)
        before, after = found["before"], found["after"]
        columns[f"delta_r_{role}"] = personalisation.delta_r(before, after)
        columns[f"score_gain_{role}"] = found["gain"]
        if role == "judge":
            columns |= {
                "rank_original_judge": before,
                "rank_creative_judge": after,
                "standardised_gain_judge": found["standardised"],
                "risen_judge": personalisation.risen(before, after),
                "percentile_gain_judge": personalisation.percentile_gain(before, after, len(run.items)),
                "reciprocal_rank_gain_judge": personalisation.reciprocal_rank_gain(before, after),
            }
    if run.settings.ranker.same_judge:
        return columns  # one model in both roles: a gap of zero by construction would pass for a measured one
    gap = personalisation.over_optimisation_gap(columns["delta_r_reward"], columns["delta_r_judge"])
    return {**columns, "over_optimisation_gap": gap}


def _asked(run: RunContext, made: CreativeBatch, role: str) -> dict[str, np.ndarray]:
    """Return ranks ``before``, with the own images, and ``after``, with the creatives, and the scores' ``gain``.

    Of the judge there is also the ``standardised`` gain. Each is ``[n]``, and of several judges the mean.
    """
    answers = []
    for member, seen in enumerate(made.judged if role == "judge" else [made.embeddings]):
        ranker = reward_model(run, role, member)
        gain = ranker.score(made.users, made.items, seen) - ranker.score_original(made.users, made.items)
        told = {
            "before": ranker.rank_original(made.users, made.items).cpu().numpy(),
            "after": ranker.rank(made.users, made.items, seen).cpu().numpy(),
            "gain": gain.cpu().numpy(),
        }
        if role == "judge":
            spread = _spread(run, ranker, made.users)
            told["standardised"] = personalisation.standardised_gain(told["gain"], spread)
        answers.append(told)
    if len(answers) == 1:
        return answers[0]
    return {key: np.mean([told[key] for told in answers], axis=0) for key in answers[0]}


def _spread(run: RunContext, ranker: RewardModel, users: Sequence[str]) -> np.ndarray:
    """Return the standard deviations of users' scores of all items with their own images, float64 ``[n]``."""
    known, place = np.unique(np.asarray(users, dtype=object), return_inverse=True)
    items = run.items["item_id"].tolist()
    step = max(1, SCORES_AT_ONCE // len(items))
    blocks = (known[start : start + step].tolist() for start in range(0, len(known), step))
    found = [ranker.score_all(block, items).double().std(dim=1, correction=0) for block in blocks]
    return np.asarray(torch.cat(found).cpu().numpy()[place])


def by_pixels(run: RunContext, made: CreativeBatch) -> Columns:
    """SSIM, and LPIPS where its weights are here, against the history's images and the item's own."""
    measures: dict[str, Callable[..., np.ndarray]] = {"ssim": semantics.ssim_pairs}
    if networks.missing("lpips") is None:
        measures["lpips"] = partial(networks.lpips_pairs, device=run.models.device)
    columns = {
        f"{name}_{side}": np.full(len(made.users), np.nan)
        for name in measures
        for side in ("personal", "semantic")
    }
    for start in range(0, len(made.users), BLOCK):
        here = slice(start, start + BLOCK)
        block = _Block(run, made, here)
        for name, pairs in measures.items():
            values = pairs(block.creatives, block.images, block.owners, block.liked)
            columns[f"{name}_personal"][here] = personalisation.history_mean(
                values, block.owners, len(block.creatives)
            )
            values = pairs(block.creatives, block.images, block.with_own, block.own)
            columns[f"{name}_semantic"][here.start + block.with_own] = values
    return columns


class _Block:
    """Some creatives as arrays beside the images they are compared with, each read once."""

    def __init__(self, run: RunContext, made: CreativeBatch, here: slice) -> None:
        creatives = [_open(path) for path in made.paths[here]]
        edge = min(*creatives[0].size, LONGEST_EDGE)
        self.creatives = np.stack([_square(image, edge) for image in creatives])
        rows, histories = made.rows[here], made.histories[here]
        known = [run.data.images[row] is not None for row in rows]
        wanted = sorted({row for history in histories for row in history} | set(rows[known].tolist()))
        place = {row: position for position, row in enumerate(wanted)}
        found = [_own_square(run, row, edge) for row in wanted]
        self.images = np.stack(found) if found else self.creatives[:0]
        self.owners, self.liked = personalisation.history_pairs(
            [[place[row] for row in history] for history in histories]
        )
        self.with_own = np.flatnonzero(known)
        self.own = np.array([place[row] for row in rows[known].tolist()], dtype=np.int64)


def _own_square(run: RunContext, row: int, edge: int) -> np.ndarray:
    """Return `_square` of an item's own image, which most measurements of a run ask for: so many as fit are kept."""
    if (row, edge) not in run.squares:
        if len(run.squares) == SQUARES:
            run.squares.clear()
        run.squares[row, edge] = _square(_open(run.data.images[row]), edge)
    return run.squares[row, edge]


def _open(path: Path | None) -> Image.Image:
    from recgen.data.images import read_image

    assert path is not None
    return read_image(path)


def _square(image: Image.Image, edge: int) -> np.ndarray:
    """Return the image's centre, scaled to ``[edge, edge, 3]``."""
    return np.asarray(ImageOps.fit(image, (edge, edge), Image.Resampling.BOX))


def by_truth(run: RunContext, made: CreativeBatch) -> Columns:
    """What the simulated user truly thinks of the creative, read off the image; nothing where the data is real."""
    truth = run.folder / "dataset/simulator"
    if not truth.is_dir():
        return {}
    from recgen.assets import asset_folder
    from recgen.data.simulation.attribute_reader import AttributeReader
    from recgen.data.simulation.simulator import Truth

    known = Truth.load(truth)
    own, images = known.attributes_of(made.items), [_open(path) for path in made.paths]
    reader = AttributeReader.load(asset_folder("attribute-reader"))
    seen, factors = reader.look(images)
    before = known.utility(made.users, own, known.factors_of(made.items))
    after = known.utility(made.users, seen, factors)
    return {
        "true_utility_gain": personalisation.true_utility_gain(before, after),
        "content_preservation": semantics.content_preservation(own[:, 0], seen[:, 0]),
    }


def by_verifier(run: RunContext, made: CreativeBatch) -> tuple[Columns, dict[str, Any] | None]:
    """Each creative's chance of a like, and whether it beats other users' of the same item (REBECA, algorithm 1)."""
    verifier = reward_model(run, "verifier")
    own = verifier.probability(made.users, made.items, made.embeddings).cpu().numpy()
    original = expit(verifier.score_original(made.users, made.items).cpu().numpy())
    seed = seed_for(run.settings.seed, "permutation test")
    test = permutation_within_items(_verifier_groups(verifier, made), seed)
    columns = {"verifier_score": own, "verifier_gain": own - original}
    return columns, None if test is None else test.as_json()


def _verifier_groups(verifier: RewardModel, made: CreativeBatch) -> Iterator[np.ndarray]:
    """Yield for each item the scores of its users (rows) for the images made for them (columns)."""
    for rows in pd.Series(range(len(made.items))).groupby(made.items).indices.values():
        users, items = ([tokens[row] for row in rows] for tokens in (made.users, made.items))
        k = len(rows)
        scores = verifier.probability(
            np.repeat(users, k).tolist(), items * k, np.tile(made.embeddings[rows], (k, 1))
        )
        yield scores.cpu().numpy().reshape(k, k)


def as_sets(run: RunContext, made: CreativeBatch) -> dict[str, Any]:
    """How the creatives as a set compare with the catalogue's images: CMMD, and FID where its weights are here."""
    real = run.reference_images
    if min(len(real.rows), len(made.items)) < 2:
        return {}
    values = {"cmmd": distribution.cmmd_by_user(real, made.embeddings, made.users).as_json()}
    if networks.missing("fid") is None:
        images = [path for path in run.data.images if path is not None]
        edge = min(_open(made.paths[0]).size)
        features = [_inception(run, paths, edge) for paths in (images, made.paths)]
        distance = distribution.frechet_distance(*features)
        values["fid"] = statistics.Estimate(distance, None, None, len(made.items)).as_json()
    return values


def _inception(run: RunContext, paths: list[Path], edge: int) -> np.ndarray:
    """Return Inception features ``[n, 2048]`` of images at the creatives' size; how it enlarges them is part of FID's network."""
    blocks = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    rows = (np.stack([_square(_open(path), edge) for path in block]) for block in blocks)
    return np.concatenate([networks.inception_features(block, device=run.models.device) for block in rows])
