"""How long trainings of ranking models are, by the keys that RecBole would train them with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from recgen.config.yaml_text import parse_yaml

_RECBOLE = {
    "epochs": 300,
    "eval_step": 1,
    "stopping_step": 10,
    "train_batch_size": 2048,
}  # RecBole's overall.yaml
_EVALUATIONS = (
    10  # of early stopping until the best one, by experience: 5 to 20 on the shipped configurations
)


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes
    ----------
    model
        The ranking model's name.
    epochs
        Epochs that are to be expected, with early stopping.
    at_most
        Epochs that the keys allow.
    evaluations
        Validations.
    batch
        Interactions a step.
    """

    model: str
    epochs: int
    at_most: int
    evaluations: int
    batch: int


@cache
def _defaults(model: str) -> dict[str, Any]:
    """Return a model's own defaults, of those that are shipped; others train by RecBole's."""
    file = files("recbole_configs").joinpath(f"{model}.yaml")
    found = parse_yaml(file.read_text(encoding="utf-8"), f"{model}.yaml") if file.is_file() else {}
    return dict(found or {})


def training(model: str, *given: Mapping[str, Any]) -> Training:
    """Return the training of a model under RecBole's keys, later mappings over earlier ones.

    >>> training("MICRO", {"epochs": 12, "eval_step": 4}).epochs
    12
    >>> training("MICRO").epochs < training("MICRO").at_most
    True
    """
    keys = {**_RECBOLE, **_defaults(model)}
    for more in given:
        keys |= more
    step = max(int(keys["eval_step"] or 1), 1)
    patience = int(keys["stopping_step"] or _EVALUATIONS)
    epochs = min(int(keys["epochs"]), (_EVALUATIONS + patience) * step)
    return Training(model, epochs, int(keys["epochs"]), epochs // step, int(keys["train_batch_size"]))
