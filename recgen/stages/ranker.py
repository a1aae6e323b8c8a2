"""The ranker stage: reward and judge on disjoint halves of the interactions, and the verifier on likes and dislikes.

A model that ranks is trained on likes, the run's RecBole data; a pointwise one on likes and dislikes, see
`recgen.recommender.feedback`. `reward_model` gives what the stage has trained back, as generators and metrics ask it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.io import write_json
from recgen.core.seeding import seed_for
from recgen.pipeline.context import RunContext, of_judge
from recgen.recommender import checkpoint, feedback, quality, recbole, unseen
from recgen.recommender.per_user import ranked_exactly
from recgen.recommender.reward import LazyRanker, Ranker
from recgen.recommender.splits import half
from recgen.recommender.training import build
from recgen.recommender.training import train as train_model

_KEPT = 2_000_000
"""Interactions of a model that stays loaded for the tasks to come: it takes some 100 MB. Reading one takes a third of what is
measured of sixty creatives; several with all of a large log would take gigabytes."""


def train(run: RunContext, role: str) -> list[Path]:
    """Train the model of one role, or the judges, one for each encoder, and save them; return what was written.

    training.json tells every epoch, the best validation result (``valid``) and, of a judge and of a model of likes and dislikes,
    what it knows of held-out ones (``test``; see `recgen.recommender.quality`).
    """
    return [path for member in range(members(run, role)) for path in _train(run, role, member)]


def members(run: RunContext, role: str) -> int:
    """Return how many models play a role: one, but that there is a judge for each of the judge's encoders."""
    return max(len(run.settings.ranker.judge_encoders), 1) if role == "judge" else 1


def model_folder(run: RunContext, role: str, member: int = 0) -> Path:
    """Return where the trained model of a role lies; of judges, the one of the encoder `member`."""
    return run.folder / "ranker" / role / (f"member_{member}" if member else "")


def _train(run: RunContext, role: str, member: int) -> list[Path]:
    run.rankers.pop((role, member), None)
    task = training_task(run, role, member)
    folder = model_folder(run, role, member)
    data = recbole.loaders(task.config, task.parts, task.keep)
    run.prepare_torch()  # RecBole's Config sets the visible devices
    trained = train_model(task.config, data)
    if task.pointwise:
        trained.record["test"] = quality.of_labels(trained.trainer, data)
    elif (
        role == "judge" and task.parts.whole.item_num > quality.CUTOFF
    ):  # one of which is padding; fewer cannot be ranked
        name = run.settings.ranker.judge
        config = run.recbole_config(name, ranked_exactly(run.recbole_keys(name), quality.CUTOFF))
        trained.record["test"] = quality.of_ranking(config, task.parts, trained.model)
    checkpoint.save(trained.model, task.parts.whole, folder)
    write_json(folder / "training.json", trained.record)
    return [folder / name for name in ("model.safetensors", "config.json", "training.json")]


@dataclass(frozen=True)
class TrainingTask:
    """What a role's model is trained on.

    Attributes
    ----------
    config
        RecBole's Config.
    parts
        The split data.
    keep
        bool ``[n_train]``, the training interactions this role may see; None: all.
    pointwise
        Whether the data are likes and dislikes, rather than likes to rank by.
    """

    config: Any
    parts: recbole.DatasetSplits
    keep: np.ndarray | None
    pointwise: bool


def training_task(run: RunContext, role: str, member: int = 0) -> TrainingTask:
    """Return what the model of a role (reward, judge or verifier) is trained on; of judges, the one of the encoder `member`."""
    name, seed = getattr(run.settings.ranker, role), run.settings.seed
    own = role == "judge" and bool(run.settings.ranker.judge_encoders)
    image = _features(run, of_judge("image", member)) if own else None
    extra: dict[str, Any] = {
        "seed": seed_for(seed, f"ranker {role}", str(member) if member else "") % 2**31,
        "item_features": item_features(run, image),
    }
    if run.settings.ranker.redraws:
        extra["image_redraws"] = str(_features(run, of_judge("redraws", member) if own else "redraws"))
    if role == "verifier":
        check_verifier(run)
    whole = role == "verifier" or run.settings.ranker.same_judge
    pointwise = is_pointwise(run, name)
    config = feedback_config(run, name, extra) if pointwise else run.recbole_config(name, extra)
    parts = feedback_splits(run, name) if pointwise else run.split
    label = feedback.LABEL if pointwise else None
    keep = None if whole else half(seed, parts, "reward" if role == "reward" else "judge", label)
    if role == "reward" and run.holds_out and not run.settings.ranker.same_judge:
        keep = _without(run.held_out, parts, parts.train) & (True if keep is None else keep)
        parts = _validated_without(run.held_out, parts)
    return TrainingTask(config, parts, keep, pointwise)


def _without(pairs: pd.MultiIndex, parts: recbole.DatasetSplits, part: Any) -> np.ndarray:
    """Return which interactions of a part are none of the pairs (user, item), bool ``[n]``."""
    rows, whole = part.inter_feat, parts.whole
    tokens = [whole.id2token(field, rows[field].numpy()) for field in (whole.uid_field, whole.iid_field)]
    return ~pd.MultiIndex.from_arrays(tokens).isin(pairs)


def _validated_without(pairs: pd.MultiIndex, parts: recbole.DatasetSplits) -> recbole.DatasetSplits:
    """Return the parts with a validation part that has none of the pairs: they may not choose the best epoch either.

    All of it stays where nothing else would be left to choose by.
    """
    free = np.flatnonzero(_without(pairs, parts, parts.valid))
    return replace(parts, valid=parts.valid.copy(parts.valid.inter_feat[free])) if len(free) else parts


def _features(run: RunContext, name: str) -> Path:
    return (run.folder / f"features/{name}.safetensors").resolve()


def item_features(run: RunContext, image: Path | None = None) -> dict[str, str]:
    """Return the `item_features` key of our ranking models; `image` replaces the images' own embeddings."""
    folder = (run.folder / "features").resolve()
    text = "text" if run.settings.ranker.text_encoder is None else "ranker_text"
    found = {"image": image or folder / "image.safetensors", "text": folder / f"{text}.safetensors"}
    return {kind: str(path) for kind, path in found.items() if path.with_suffix(".ids.txt").stat().st_size}


# ---- models trained on likes and dislikes ----


def is_pointwise(run: RunContext, name: str) -> bool:
    """Return whether a ranking model, by its class, its defaults and its block in the YAML, is trained on labels."""
    return feedback.is_pointwise(feedback_config(run, name, {}))


def check_verifier(run: RunContext) -> None:
    """Raise `UserError` where the verifier is a model that ranks: it has to say how likely a like is."""
    name = run.settings.ranker.verifier
    if not is_pointwise(run, name):
        raise UserError(
            f"{run.config.source}: recgen.ranker.verifier",
            found=f"{name}, which is not trained on likes and dislikes",
            expected="a model that learns from labels",
            todo="Set it to Verifier, without train_neg_sample_args in its settings.",
        )


def feedback_config(run: RunContext, name: str, extra: dict[str, Any]) -> Any:
    """Return RecBole's Config of a model over the likes and dislikes."""
    own = run.settings.ranker.settings.get(name, {})
    keys = feedback.recbole_keys(run.config.recbole, own, run.folder / "recbole/labelled")
    cls = recbole.model_class(name, f"{run.config.source}: recgen.ranker")
    return recbole.recbole_config(cls, {**keys, **extra})


def feedback_splits(run: RunContext, name: str) -> recbole.DatasetSplits:
    """Return likes and dislikes, split for training, early stopping and the held-out AUC: alike for every role and seed."""
    if name not in run.feedback:
        seed = run.settings.seed
        feedback.write_data(run.folder / "recbole/labelled", run.interactions, run.items, seed)
        config = feedback_config(run, name, {"seed": seed_for(seed, "labelled split") % 2**31})
        run.feedback[name] = recbole.split(config, run.config.source)
    return run.feedback[name]


def held_out(run: RunContext, name: str) -> pd.DataFrame:
    """Return the held-out likes and dislikes of a model; see `recgen.recommender.feedback.held_out`."""
    return feedback.held_out(feedback_splits(run, name))


# ---- trained models ----


def load_ranker(run: RunContext, role: str, member: int = 0) -> Ranker:
    """Return the trained model of a role, reward, judge or verifier, from the run's folder; of judges, one of them.

    Raises
    ------
    UserError
        When the folder holds a model of other users, items, features or settings than the run's.
    """
    role = run.resolve_role(role)
    if (role, member) in run.rankers:
        return run.rankers[role, member]
    task = training_task(run, role, member)
    dataset = recbole.training_part(task.parts, task.keep)
    run.prepare_torch()
    model = checkpoint.load(build(task.config, dataset), task.parts.whole, model_folder(run, role, member))
    ranker = Ranker(model, dataset, run.settings.ranker.what_if)
    if len(dataset.inter_feat) <= _KEPT:
        run.rankers[role, member] = ranker
    return ranker


def judge_of_generators(run: RunContext) -> LazyRanker | None:
    """Return the judge for a generator's curves, which asks it in embeddings of the run's encoder; None where it has another."""
    return reward_model(run, "judge") if not run.settings.ranker.judge_encoders else None


def reward_model(run: RunContext, role: str, member: int = 0) -> LazyRanker:
    """Return the trained model of a role, to be read from the run's folder when it is first asked something."""
    return LazyRanker(lambda: load_ranker(run, role, member), lambda: unseen_encounters(run, role))


def unseen_encounters(run: RunContext, role: str) -> pd.DataFrame:
    """Return encounters that the model of a role was not trained on; see `recgen.recommender.unseen`."""
    name = getattr(run.settings.ranker, run.resolve_role(role))
    if is_pointwise(run, name):
        found = unseen.of_pointwise(feedback_splits(run, name))
    else:
        found = unseen.of_ranking(run.interactions, run.items, run.settings.seed)
    if not run.holds_out:
        return found
    pairs = found.set_index(["user_id", "item_id"]).index
    return found[~pairs.isin(run.held_out)].reset_index(drop=True)
