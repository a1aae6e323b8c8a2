"""What generators trained on earlier likes share: the split of users, early stopping, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from generators.base import Generator
from generators.common.settings import TrainingConfig
from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng
from recgen.data.types import RunData
from recgen.features.language import LanguageModel

Curves = dict[str, list[tuple[int, float]]]
Learned = dict[str, list[str]]
"""Tokens of the training users (``train``) and of the users held out for early stopping (``held_out``)."""
T = TypeVar("T")


class Example(Protocol):
    """A training example of one user."""

    @property
    def user(self) -> str:
        """The user's token."""


def likes_by_user(data: RunData) -> dict[int, list[int]]:
    """Return each user's liked items, catalogue rows oldest first, by the user's row."""
    likes = data.interactions[data.interactions["like"]].sort_values("timestamp", kind="stable")
    found: dict[Any, list[int]] = {
        user: rows["item"].tolist() for user, rows in likes.groupby("user", sort=True)
    }
    return found


def references(count: int, latest: int, settings: TrainingConfig) -> range:
    """Return the places, among `count` likes of a user, of the `latest` ones that have history enough to be references."""
    return range(max(count - latest, settings.min_history), count)


def split_users(
    users: Sequence[int], stage: str, run_seed: int, settings: TrainingConfig
) -> tuple[list[int], list[int]]:
    """Return training users and held-out users (at most a fifth), drawn from `users` by the run's seed."""
    order = numpy_rng(run_seed, stage).permutation(len(users))
    drawn = [users[i] for i in order[: settings.train_users + settings.held_out_users]]
    held = min(settings.held_out_users, len(drawn) // 5)
    return drawn[held:][: settings.train_users], drawn[:held]


def examples_of(
    data: RunData, settings: TrainingConfig, stage: str, of_user: Callable[[int, list[int]], Iterable[T]]
) -> tuple[list[T], list[T]]:
    """Return all examples of the training users, and the last example of each held-out user.

    `of_user` makes a user's examples, oldest first, of the user's row and likes; users without any are neither.
    """
    found = {user: list(of_user(user, items)) for user, items in likes_by_user(data).items()}
    learned, held = split_users([user for user, own in found.items() if own], stage, data.run_seed, settings)
    return [example for user in learned for example in found[user]], [found[user][-1] for user in held]


def learned_users(train: Sequence[Example], held_out: Sequence[Example], method: str, nobody: str) -> Learned:
    """Return the users of `train` and of `held_out`; raise `UserError`, whose `found` is `nobody`, if there is no example."""
    if not train:
        raise UserError(
            f"recgen.{method}.min_history",
            found=nobody,
            expected="users to learn from",
            todo="Set a smaller min_history, or give more interactions.",
        )
    return {
        part: sorted({example.user for example in of})
        for part, of in (("train", train), ("held_out", held_out))
    }


def batches(rows: Sequence[T], size: int, stage: str, run_seed: int) -> Iterator[list[T]]:
    """Yield batches for ever, each row once before any comes twice."""
    rng = numpy_rng(run_seed, stage)
    queue: list[int] = []
    size = min(size, len(rows))
    while True:
        while len(queue) < size:
            queue.extend(rng.permutation(len(rows)).tolist())
        yield [rows[i] for i in queue[:size]]
        queue = queue[size:]


def train_with_early_stopping(
    trained: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
    backward: Callable[[int], None],
    evaluate: Callable[[int], float],
    settings: TrainingConfig,
    after: Callable[[int], None],
) -> None:
    """Train with early stopping; restore the best parameters.

    Parameters
    ----------
    trained
        The parameters to train, by name.
    optimiser
        Takes the steps.
    backward, evaluate
        Of a step's number: adds up the gradients of the loss to minimise, and returns the score to maximise. The first evaluation
        is of the start, step 0.
    settings
        `max_steps`, `evaluate_every` and `patience`.
    after
        Called after every step with its number, such as to step a schedule.
    """
    best, kept, waited = evaluate(0), _copy(trained), 0
    for step in range(1, settings.max_steps + 1):
        optimiser.zero_grad()
        backward(step)
        optimiser.step()
        after(step)
        if step % settings.evaluate_every == 0 or step == settings.max_steps:
            value = evaluate(step)
            waited = 0 if value > best else waited + 1
            if value > best:
                best, kept = value, _copy(trained)
            if waited >= settings.patience:
                break
    _restore(trained, kept)


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a module that train, by name."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def language_model_of(generator: Generator) -> LanguageModel:
    """Return the run's language model, or raise `UserError` where there is none."""
    if generator.language_model is None:
        raise UserError(
            "recgen.llm", found="null", expected="a language model", todo="Set recgen.llm: demo-llm."
        )
    return generator.language_model


def save_learned(
    generator: Generator,
    folder: Path,
    trained: Mapping[str, Tensor],
    learned: Learned,
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Write what trained, and `more` tensors beside it; the frozen language model is named, not copied."""
    facts = {"language_model": language_model_of(generator).name, **learned}
    write_learned(folder, {**trained, **(more or {})}, facts)


def write_learned(folder: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts, among them the users learned from and watched, so that `load_learned` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def load_learned(folder: Path, method: str) -> tuple[dict[str, Tensor], Learned]:
    """Read what `save_learned` or `write_learned` wrote, or raise `UserError` if `folder` holds no `method`."""
    if not (folder / "model.safetensors").exists():
        raise UserError(str(folder), found="no model.safetensors", expected=f"a folder that {method} saved")
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return load_file(folder / "model.safetensors"), {part: facts[part] for part in ("train", "held_out")}


def restore(trained: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    """Set parameters to what was saved in `folder`, or raise `UserError` if they are of other sizes."""
    if {name: value.shape for name, value in trained.items()} != {
        name: value.shape for name, value in state.items()
    }:
        raise UserError(
            str(folder), found="weights of other sizes", expected="these settings'", todo="Fit it again."
        )
    _restore(trained, state)


@torch.no_grad()
def _restore(trained: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        trained[name].copy_(value)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
