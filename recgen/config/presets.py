"""`recgen.preset`: one word for many keys; what the YAML says itself always wins.

A preset has values for the `recgen:` block here, and for a generator's block in the generator's own settings
(`generators.settings.GeneratorConfig.presets`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from recgen.config.schema import SHIPPED, Rankers, Settings

QUICK, STANDARD, PAPER = "quick", "standard", "paper"

BLOCKS: dict[str, dict[str, Any]] = {
    QUICK: {
        "requests": {"protocol": "blind", "items": 20, "per_item": 3},
        "ranker": {
            "settings": {
                "MICRO": {
                    "epochs": 12,
                    "eval_step": 3,
                    "stopping_step": 2,
                    "train_batch_size": 4096,
                    "learning_rate": 5.0e-3,
                    "contrastive_items": 256,
                },
                "VBPR": {"epochs": 60},
                "Verifier": {"epochs": 20, "train_batch_size": 4096, "learning_rate": 1.0e-2},
            }
        },
        "downstream": {
            "seeds": 2,
            "items": 20,
            "per_item": 1,
            "settings": {"epochs": 6},
        },
    },
    STANDARD: {},
    PAPER: {"requests": {"protocol": "paper"}, "ranker": {"same_judge": True}, "downstream": {"seeds": 5}},
}
"""What each preset sets in the `recgen:` block."""


def chosen(ours: Mapping[str, Any]) -> str:
    """Return the preset of a `recgen:` block: the one it names, else quick on the shipped models and standard on others.

    >>> chosen({}), chosen({"backbone": "org/model"}), chosen({"preset": "paper"})
    ('quick', 'standard', 'paper')
    """
    named = ours.get("preset")
    if isinstance(named, str):
        return named
    weights = {key: ours.get(key) or Settings.model_fields[key].default for key in SHIPPED}
    return QUICK if all(_is_shipped(value) for value in weights.values()) else STANDARD


def _is_shipped(spec: Any) -> bool:
    return isinstance(spec, str) and any(spec.startswith(name) for name in SHIPPED.values())


def applied(ours: Mapping[str, Any], recbole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `recgen:` block with what its preset sets and it does not say.

    Parameters
    ----------
    ours
        The block as given. Of a preset that is not one, nothing is set: the schema says what is wrong.
    recbole
        RecBole's keys at top level: what stands there for all models, a preset does not set for a single one.
    """
    name = chosen(ours)
    block = copy.deepcopy(BLOCKS.get(name, {}))
    _only_what_is_free(block, ours, recbole)
    return {**merged(block, ours), "preset": name}


def _only_what_is_free(block: dict[str, Any], ours: Mapping[str, Any], recbole: Mapping[str, Any]) -> None:
    """Take out of a preset's block, in place, RecBole keys that the YAML has for all models, and models that the run has not."""
    ranker, downstream = _mapping(ours.get("ranker")), _mapping(ours.get("downstream"))
    defaults = Rankers.model_fields
    named = [ranker.get(role, defaults[role].default) for role in ("reward", "judge", "verifier")]
    used = {name for name in (*named, downstream.get("model")) if isinstance(name, str)}
    trainings = _mapping(block.get("ranker")).get("settings", {})
    for model in set(trainings) - used:
        del trainings[model]
    for keys in (*trainings.values(), _mapping(block.get("downstream")).get("settings", {})):
        for key in set(keys) & set(recbole):
            del keys[key]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def merged(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a preset under those that were given, mapping by mapping.

    >>> merged({"decode": {"steps": 6, "sampler": "ddim"}, "k": 3}, {"decode": {"steps": 9}})
    {'decode': {'steps': 9, 'sampler': 'ddim'}, 'k': 3}
    """
    found = dict(preset)
    for key, value in given.items():
        below = found.get(key)
        found[key] = (
            merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    if "protocol" in given and given["protocol"] != preset.get("protocol"):
        return dict(given)  # another protocol has other keys
    return found
