"""What taste learns of all users, and how it is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from generators.common.ridge import best_strength
from generators.taste.asked import NOTHING, Asked, Belief, Sources
from generators.taste.catalogue import Catalogue
from generators.taste.corrected import Corrector
from generators.taste.kept import Strength, Tried
from generators.taste.likes import (
    Basis,
    Encounters,
    Moments,
    Population,
    learn_population,
    sample_of_users,
)
from generators.taste.trust import OWN_LIKES, Trust, fit_trust
from recgen.core.errors import UserError
from recgen.core.io import read_json, write_bytes, write_json
from recgen.data.types import RunData
from recgen.recommender.reward import RewardModel

_CORRECTOR = "corrector."
_USERS = 1_000
"""Users whose mean is what everybody likes, at most."""


@dataclass(frozen=True)
class Learned:
    """Everything that `save` writes.

    Attributes
    ----------
    rows
        int64 ``[N]``, the row numbers of the items looked at.
    belief
        See `generators.taste.asked.Belief`.
    shared
        float32 ``[N]``, the mean over users of their scores net of content: what everybody likes.
    strength
        What images are drawn with.
    tried, text_kept
        What the other strengths did, and the share that the text alone keeps; none where nothing was tried.
    corrector
        What corrects image embeddings, (9), where that was learned.
    """

    rows: np.ndarray
    belief: Belief
    shared: np.ndarray
    strength: Strength
    tried: tuple[Tried, ...] = ()
    text_kept: float | None = None
    corrector: Corrector | None = None


def beliefs(data: RunData, catalogue: Catalogue, reward: RewardModel | None) -> tuple[Belief, np.ndarray]:
    """Return how far each source is believed, and what everybody likes, float32 ``[N]``.

    The population and the weights of (6) are learned without the encounters that the reward was not trained on, on which the
    weights are fitted; the posterior of a user then reads all of them.
    """
    unseen = _unseen(data, catalogue, reward)
    met = Encounters.of(data).without(unseen).by_user()
    users = sample_of_users(sorted(met), data, "taste population")
    basis = Basis.of(catalogue.images)
    rows = [met[user] for user in users]
    population = learn_population(Moments.of(basis, data.image_features, rows))
    sources = Sources(data, catalogue, reward, basis, population, met)
    sample = sample_of_users(users, data, "taste everybody", _USERS)
    rewards = sources.rewards(sample)
    reward_mean = rewards.mean(axis=0) if len(sample) else np.zeros(len(catalogue.rows), np.float32)
    trust = _trust(sources, sample, rewards - reward_mean, reward_mean, unseen)
    parts = trust.parts(rewards, sources.likes(sample), reward_mean, sources.counts(sample))
    scores = trust.combine(parts)
    text_strength = best_strength(catalogue.texts, scores)
    belief = Belief(basis, population, trust, reward_mean, text_strength)
    net = Asked(sources, belief).text_ridge.residuals(scores, np.full(len(sample), -1))
    tag_strength = best_strength(catalogue.indicators, net)
    shared = net.mean(axis=0) if len(sample) else np.zeros(len(catalogue.rows), np.float32)
    return Belief(basis, population, trust, reward_mean, text_strength, tag_strength), shared


def _unseen(data: RunData, catalogue: Catalogue, reward: RewardModel | None) -> Encounters:
    """Return the encounters that the reward was not trained on, of users and items of the catalogue."""
    if reward is None:
        return Encounters(NOTHING[0], NOTHING[0], NOTHING[1])
    table = reward.unseen()
    users = np.array([data.user_rows.get(token, -1) for token in table["user_id"]], dtype=np.int64)
    items = np.array([data.item_rows.get(token, -1) for token in table["item_id"]], dtype=np.int64)
    known = (users >= 0) & (catalogue.positions(items) >= 0)
    return Encounters(users[known], items[known], table["like"].to_numpy(bool)[known])


def _trust(
    sources: Sources, sample: list[int], own: np.ndarray, reward_mean: np.ndarray, unseen: Encounters
) -> Trust:
    """Return the weights of (6), fitted on the unseen encounters of the sampled users."""
    kept = np.isin(unseen.users, sample)
    if not kept.any():
        return OWN_LIKES
    place = {user: row for row, user in enumerate(sample)}
    rows = np.array([place[user] for user in unseen.users[kept].tolist()])
    columns = sources.catalogue.positions(unseen.items[kept])
    found = [own[rows, columns], sources.likes(sample)[rows, columns], reward_mean[columns]]
    return fit_trust(np.stack(found, axis=1), sources.counts(sample)[rows], unseen.likes[kept])


def save(learned: Learned, folder: Path) -> None:
    """Write arrays to model.safetensors and the rest to config.json, the same bytes for the same state."""
    from safetensors.numpy import save as to_bytes

    belief = learned.belief
    arrays = {
        "rows": learned.rows,
        "shared": learned.shared,
        "reward_mean": belief.reward_mean,
        "basis_mean": belief.basis.mean,
        "basis_directions": belief.basis.directions,
        "population_mean": belief.population.mean,
        "population_covariance": belief.population.covariance,
    }
    if learned.corrector is not None:
        arrays |= {_CORRECTOR + name: value for name, value in learned.corrector.state().items()}
    write_bytes(
        folder / "model.safetensors",
        to_bytes({key: np.ascontiguousarray(each) for key, each in arrays.items()}),
    )
    config = {
        "noise": belief.population.noise,
        "text_strength": belief.text_strength,
        "tag_strength": belief.tag_strength,
        "trust": belief.trust.as_json(),
        "strength": learned.strength.as_json(),
        "tried": [each.as_json() for each in learned.tried],
        "text_kept": learned.text_kept,
    }
    write_json(folder / "config.json", config)


def load(folder: Path) -> Learned:
    """Read what `save` wrote.

    Raises
    ------
    UserError
        If `folder` holds no taste.
    """
    from safetensors.numpy import load_file

    found = read_json(folder / "config.json")
    if found is None or "trust" not in found or not (folder / "model.safetensors").exists():
        raise UserError(
            str(folder), found="no fitted taste", expected="model.safetensors and config.json of one",
            todo="Fit it again: recgen run --force generator.fit.",
        )  # fmt: skip
    arrays = load_file(folder / "model.safetensors")
    population = Population(arrays["population_mean"], arrays["population_covariance"], found["noise"])
    belief = Belief(
        Basis(arrays["basis_mean"], arrays["basis_directions"]), population, Trust(**found["trust"]),
        arrays["reward_mean"], found["text_strength"], found["tag_strength"],
    )  # fmt: skip
    tried = tuple(_tried(each) for each in found["tried"])
    state = {
        name.removeprefix(_CORRECTOR): array for name, array in arrays.items() if name.startswith(_CORRECTOR)
    }
    return Learned(
        arrays["rows"], belief, arrays["shared"], Strength(**found["strength"]), tried, found["text_kept"],
        Corrector.restored(state) if state else None,
    )  # fmt: skip


def _tried(values: dict[str, Any]) -> Tried:
    strength = {key: values[key] for key in ("words", "scale", "guidance")}
    return Tried(Strength(**strength), values["kept"], values["opinion"])
