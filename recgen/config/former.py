"""Names that earlier versions gave to keys, generators and shipped models: still read, each with one note that says today's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from recgen.core.errors import UserError

logger = logging.getLogger("recgen")

KEYS = {
    "recgen.chunk": "recgen.shard_size",
    "recgen.target": "recgen.eval_split",
    "recgen.obtain": "recgen.download",
    "recgen.obtain.pictures": "recgen.download.images",
    "recgen.download.pictures": "recgen.download.images",
    "recgen.tags.picture": "recgen.tags.image",
    "recgen.ip_adapter.ip_adapter": "recgen.ip_adapter",
    "recgen.textual_inversion.pictures_per_step": "recgen.textual_inversion.images_per_step",
    "recgen.dreambooth.pictures_per_step": "recgen.dreambooth.images_per_step",
    "recgen.dreambooth.prior_pictures": "recgen.dreambooth.prior_images",
    "picture_bias_reg_weight": "image_bias_reg_weight",
}
"""Keys of the YAML, dotted, and what they are called today."""

GENERATORS = {"ip_adapter": "ip_adapter_mean"}
"""Generators, and what they are called today.

One that is listed under its former name keeps it in the run's tables and folders, so that what an earlier version made is read
under the name that it has there; its settings stand under today's name.
"""

MEASURES = {"mean": "retrained", "per_user": "reranked"}
"""Values of `recgen.tune.measure`, and the sound forms that took their place."""

MODELS = {"demo-sd-films": "demo-sd", "demo-ip-adapter-films": "demo-ip-adapter"}
"""Shipped models, and what does their work today: one model draws both the simulator's items and real films."""

_RECBOLE = {old: new for old, new in KEYS.items() if "." not in old}
_BLOCKS = {
    kind: {
        old.rpartition(".")[2]: new.rpartition(".")[2]
        for old, new in KEYS.items()
        if old.startswith(f"recgen.{kind}.")
    }
    for kind in ("textual_inversion", "dreambooth")
}


class Renaming:
    """Brings the values of one configuration to today's names, and keeps what to say about it.

    Parameters
    ----------
    where
        The YAML, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._notes: dict[str, str] = {}

    def say(self) -> None:
        """Log one note for each old name that was met."""
        for old, new in self._notes.items():
            logger.warning(
                "%s: %s is called %s now; the old name works in this version", self.where, old, new
            )

    def key(self, key: str) -> str:
        """Return today's name of a dotted key, as `--set` has them."""
        for old in sorted(KEYS, key=len, reverse=True):
            if key == old or key.startswith(f"{old}."):
                self._notes[old] = KEYS[old]
                return KEYS[old] + key.removeprefix(old)
        for old, new in GENERATORS.items():
            if key.startswith(f"recgen.{old}."):
                self._notes[f"the generator {old}"] = new
                return f"recgen.{new}." + key.removeprefix(f"recgen.{old}.")
        return key

    def values(self, values: dict[str, Any]) -> None:
        """Rename the keys and generators of a whole configuration, in place.

        Raises
        ------
        UserError
            Where a mapping has a key under both names.
        """
        ours = values.get("recgen")
        for holder, prefix in self._recbole_blocks(values):
            for old, new in _RECBOLE.items():
                self._move(holder, old, new, prefix)
        if not isinstance(ours, dict):
            return
        for dotted, new in KEYS.items():
            _, *path = dotted.split(".")
            if len(path) == 1:
                self._move(ours, path[0], new.rpartition(".")[2], "recgen.")
        for block, old, new in (("download", "pictures", "images"), ("tags", "picture", "image")):
            self._move(_mapping(ours, block), old, new, f"recgen.{block}.")
        tune = _mapping(ours, "tune")
        if (today := MEASURES.get(str(tune.get("measure")))) is not None:
            self._notes[f"recgen.tune.measure: {tune['measure']}"] = today
            tune["measure"] = today
        for key in ("backbone", "ip_adapter"):
            self._model(ours, key)
        self._generators(ours)

    def _recbole_blocks(self, values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield every mapping that holds RecBole's keys, with what its dotted keys begin with."""
        yield values, ""
        ours = _mapping(values, "recgen")
        yield _mapping(_mapping(ours, "downstream"), "settings"), "recgen.downstream.settings."
        models = _mapping(_mapping(ours, "ranker"), "settings")
        yield from ((_mapping(models, name), f"recgen.ranker.settings.{name}.") for name in models)

    def _generators(self, ours: dict[str, Any]) -> None:
        """Rename the blocks of generators and the keys in them."""
        self._shared_name(ours)
        for name in listed if isinstance(listed := ours.get("generators"), list) else []:
            self._kind(name)
        kinds = {}
        for name in ours:
            block = _mapping(ours, name)
            if "generator" in block:
                block["generator"] = self._kind(block["generator"])
            kinds[name] = str(block.get("generator", name))
            for old, new in _BLOCKS.get(kinds[name], {}).items():
                self._move(block, old, new, f"recgen.{name}.")
        self._space(_mapping(_mapping(ours, "tune"), "space"), kinds)

    def _shared_name(self, ours: dict[str, Any]) -> None:
        """Take apart the block of a generator that shared its name with a setting, which it then held under that name."""
        for old, new in GENERATORS.items():
            if isinstance(ours.get(old), dict):
                block = ours.pop(old)
                if old in block:
                    ours[old] = block.pop(old)
                if block:
                    self._set(ours, old, new, block, "recgen.")
                    self._notes[f"the generator {old}"] = new

    def _model(self, ours: dict[str, Any], key: str) -> None:
        """Name today's model where a former one is asked for."""
        if isinstance(name := ours.get(key), str) and name in MODELS:
            ours[key] = MODELS[name]
            self._notes[f"the model {name}"] = MODELS[name]

    def _space(self, space: dict[str, Any], kinds: dict[str, str]) -> None:
        for key in list(space):
            name, _, setting = key.partition(".")
            today = _BLOCKS.get(kinds.get(name, name), {}).get(setting, setting)
            if today != setting:
                self._move(space, key, f"{name}.{today}", "recgen.tune.space.")

    def _kind(self, name: Any) -> Any:
        if not isinstance(name, str) or name not in GENERATORS:
            return name
        self._notes[f"the generator {name}"] = GENERATORS[name]
        return GENERATORS[name]

    def _move(self, holder: dict[str, Any], old: str, new: str, prefix: str) -> None:
        if old in holder:
            self._set(holder, old, new, holder.pop(old), prefix)
            self._notes[f"{prefix}{old}"] = f"{prefix}{new}"

    def _set(self, holder: dict[str, Any], old: str, new: str, value: Any, prefix: str) -> None:
        if new in holder:
            raise UserError(
                f"{self.where}: {prefix}{old}",
                found=f"both {old} and {new}",
                expected=f"{new} alone, which is its name now",
            )
        holder[new] = value


def _mapping(holder: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping under a key; an empty one where there is none."""
    found = holder.get(key)
    return found if isinstance(found, dict) else {}
