"""One YAML: RecBole's keys at top level, ours under `recgen:`; typed, checked and explained before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from recgen.config import former, plugins, presets, recbole_keys
from recgen.config.former import Renaming
from recgen.config.generators import GeneratorSpec
from recgen.config.schema import COMPANIONS, SHIPPED, Rankers, Requests, Settings
from recgen.config.validation import validate
from recgen.config.yaml_text import parse_yaml, read_text
from recgen.core.errors import UserError, nearest
from recgen.diffusion.profiles import profile_of


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Attributes
    ----------
    name
        The YAML's name without its ending; runs go to ``runs/<name>`` unless told otherwise.
    source
        The YAML's path as the user knows it, for messages.
    recbole
        RecBole's keys, as given.
    settings
        The `recgen:` block.
    generators
        What is known of each listed generator, by its name and in the order of the list.
    """

    name: str
    source: str
    recbole: dict[str, Any]
    settings: Settings
    generators: dict[str, GeneratorSpec]

    def resolved(self) -> dict[str, Any]:
        """Return the whole configuration with every default filled in, as plain YAML values."""
        ours = self.settings.model_dump(mode="json")
        for name, spec in self.generators.items():
            if former.GENERATORS.get(name, name) == spec.kind:
                ours[spec.kind] = spec.settings
            else:
                ours[name] = {"generator": spec.kind, **spec.settings}
        return {**self.recbole, "recgen": ours}


def shipped() -> list[str]:
    """Return the names of the YAMLs in recbole_configs that `--config` takes."""
    folder = files("recbole_configs")
    found = (entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name.removesuffix(".yaml") for name in found if name[:1].islower())


def load_config(source: str, overrides: Iterable[str] = ()) -> Config:
    """Read, override and check a configuration; neither torch nor RecBole is imported for that.

    Parameters
    ----------
    source
        A path, or the name of a file in recbole_configs with or without its ending.
    overrides
        ``KEY=VALUE`` strings with dotted keys; values are YAML. One that sets `recgen.encoder` or `recgen.backbone` to a shipped
        model takes what the YAML names beside them (`COMPANIONS`) back to its default, which is shipped.

    Raises
    ------
    UserError
        For a missing file, text that is not YAML, an unknown or ill-typed key, or an unknown generator or ranking model.
    """
    text, where = _read(source)
    values = parse_yaml(text, where)
    if not isinstance(values, dict):
        raise UserError(where, found=type(values).__name__, expected="a mapping of keys to values")
    values = _overridden(values, list(overrides), where)
    ours = values.pop("recgen", None) or {}
    if not isinstance(ours, dict):
        raise UserError(f"{where}: recgen", found=type(ours).__name__, expected="a mapping of keys to values")
    if not isinstance(values.get("dataset"), str):
        raise UserError(
            f"{where}: dataset", found=repr(values.get("dataset")), expected="a RecBole data set's name"
        )
    settings = _check(presets.applied(ours, values), where)
    recbole_keys.check(values, settings, where)
    kinds = {**former.GENERATORS, **_own_names(ours)}
    try:
        backbone = profile_of(settings.backbone, settings.profile)
    except UserError as error:
        raise UserError(f"{where}: recgen.backbone", found=error.found, expected=error.expected) from error
    specs = {
        name: GeneratorSpec.read(
            name, kinds.get(name, name), _block(ours, name), where, backbone, settings.preset
        )
        for name in settings.generators
    }
    return Config(Path(source).stem, where, values, settings, specs)


def _overridden(values: dict[str, Any], overrides: list[str], where: str) -> dict[str, Any]:
    """Return the values under today's names with the overrides applied; old names are noted."""
    renaming = Renaming(where)
    renaming.values(values)
    _follow_shipped(values, overrides)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"--set {override}", found="no KEY=VALUE", expected="for example recgen.seed=7")
        _apply(values, renaming.key(key), text, override)
        renaming.values(values)
    renaming.say()
    return values


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    name = source.removesuffix(".yaml")
    if path.is_file():
        return read_text(path, source), source
    if name in shipped():
        return files("recbole_configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml"
    raise UserError(
        f"--config {source}",
        found="a folder" if path.is_dir() else "no such file",
        expected=f"a path or one of {', '.join(shipped())}",
        todo=nearest(name, shipped()),
    )


def _apply(values: dict[str, Any], key: str, text: str, override: str) -> None:
    """Set one dotted key in place."""
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            above = ".".join(parents[: depth + 1])
            raise UserError(
                f"--set {override}", found=f"{above} = {values!r}", expected="a key that holds other keys"
            )
    values[last] = parse_yaml(text, f"--set {override}")


def _follow_shipped(values: dict[str, Any], overrides: list[str]) -> None:
    """Drop the YAML's weights that go with its own encoder and backbone where an override names a shipped one, in place.

    An adapter fits one encoder and one backbone; captions and keywords of large models are of no use to small ones, and cannot be
    had where those are asked for. What an override names itself stays: overrides are applied after this.
    """
    given = {key: text.strip(" '\"") for key, _, text in (override.partition("=") for override in overrides)}
    ours = values.get("recgen")
    if any(given.get(f"recgen.{key}") == name for key, name in SHIPPED.items()) and isinstance(ours, dict):
        for companion in COMPANIONS:
            block, _, key = companion.rpartition(".")
            holder = ours.get(block) if block else ours
            if isinstance(holder, dict):
                holder.pop(key, None)


def _own_names(ours: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the user's own for generators, and what each stands for.

    ``glide: {generator: folder, path: glide/}`` makes `glide` a generator of the run, so that one run can have several of a kind.
    """
    taken = {*Settings.model_fields, *plugins.names(plugins.GENERATORS)}
    return {
        str(key): str(block["generator"])
        for key, block in ours.items()
        if key not in taken and isinstance(block, Mapping) and "generator" in block
    }


def _block(ours: Mapping[str, Any], name: str) -> Any:
    """Return what was given for a generator, without what it stands for."""
    given = ours.get(former.GENERATORS.get(name, name)) or {}
    if name in _own_names(ours):
        return {key: value for key, value in given.items() if key != "generator"}
    return given


def _check(ours: Mapping[str, Any], where: str) -> Settings:
    """Return the `recgen:` block without the generators' own blocks, checked; nothing heavy is imported."""
    kinds = _own_names(ours)
    for name, kind in kinds.items():
        if not re.fullmatch(r"[\w-]{1,64}", name):
            raise UserError(
                f"{where}: recgen.{name}", found=repr(name), expected="a name of letters, digits, - and _"
            )
        plugins.check(plugins.GENERATORS, kind, f"{where}: recgen.{name}.generator")
    installed = [*plugins.names(plugins.GENERATORS), *kinds]
    known = [*Settings.model_fields, *installed]
    for key in ours:
        if key not in known:
            todo = nearest(str(key), known)
            raise UserError(
                f"{where}: recgen.{key}", found="an unknown key", expected="a key of recgen", todo=todo
            )
    own = {key: value for key, value in ours.items() if key in Settings.model_fields}
    settings = validate(Settings, own, where, "recgen")
    for role in ("reward", "judge", "verifier"):
        plugins.check_ranking_model(
            getattr(settings.ranker, role), f"{where}: recgen.ranker.{role}", images=True
        )
    for name in settings.ranker.settings:
        plugins.check_ranking_model(name, f"{where}: recgen.ranker")
    if settings.downstream.model is not None:
        plugins.check_ranking_model(settings.downstream.model, f"{where}: recgen.downstream.model")
    _check_same_judge(settings.ranker, where)
    if settings.ranker.same_judge and isinstance(settings.requests, Requests) and settings.requests.held_out:
        raise UserError(
            f"{where}: recgen.requests.held_out",
            found=f"{settings.requests.held_out} with same_judge: true, whose reward learns from everything",
            expected="0, or same_judge: false",
        )
    possible = {*settings.generators, *plugins.names(plugins.GENERATORS)}
    stranger = next((n for n in settings.downstream.generators or () if n not in possible), None)
    if stranger is not None:
        raise UserError(
            f"{where}: recgen.downstream.generators",
            found=repr(stranger),
            expected=f"some of recgen.generators: {', '.join(settings.generators)}",
        )
    if len({former.GENERATORS.get(name, name) for name in settings.generators}) < len(settings.generators):
        raise UserError(
            f"{where}: recgen.generators", found=str(settings.generators), expected="each name once"
        )
    for name in settings.generators:
        if name not in kinds and name not in former.GENERATORS:
            plugins.check(plugins.GENERATORS, name, f"{where}: recgen.generators")
    return settings


def _check_same_judge(ranker: Rankers, where: str) -> None:
    if ranker.same_judge and ranker.reward != ranker.judge:
        raise UserError(
            f"{where}: recgen.ranker.same_judge",
            found=f"true with reward {ranker.reward} and judge {ranker.judge}",
            expected="one model for both",
        )
    if ranker.same_judge and ranker.judge_encoder is not None:
        raise UserError(
            f"{where}: recgen.ranker.judge_encoder",
            found=f"{ranker.judge_encoder!r} with same_judge: true, where reward and judge are one model",
            expected="null, or same_judge: false",
        )
