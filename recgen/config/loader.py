"""One YAML: RecBole's keys at top level, ours under `recgen:`; typed, checked and explained before anything runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recgen.config import plugins
from recgen.config.schema import COMPANIONS, SHIPPED, Rankers, Settings
from recgen.core.errors import UserError, nearest
from recgen.core.io import digest, write_json


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
        Each listed generator's own block, checked, with its defaults filled in, as plain values.
    needs
        What each listed generator asks the features stage for: any of captions, foregrounds, keywords and tags, in alphabetical
        order.
    drawn_with
        The keys of each listed generator's block that only drawing reads, in alphabetical order.
    kinds
        The installed generator that each listed name stands for: itself, or what its block names as `generator`.
    backbones
        The families of pipelines that each listed generator can draw with, in alphabetical order; see `recgen.diffusion.weights`.
    adapts
        Whether each listed generator draws from image embeddings, and so needs an IP-Adapter.
    sources
        The files, folders and weights beside the run's own that each listed generator reads.
    key
        What the blocks and the needs follow from; see `remember`.
    """

    name: str
    source: str
    recbole: dict[str, Any]
    settings: Settings
    generators: dict[str, dict[str, Any]]
    needs: dict[str, list[str]]
    sampling_fields: dict[str, list[str]]
    kinds: dict[str, str]
    backbones: dict[str, list[str]]
    requires_ip_adapter: dict[str, bool]
    sources: dict[str, list[str]]
    key: str

    def resolved(self) -> dict[str, Any]:
        """Return the whole configuration with every default filled in, as plain YAML values."""
        ours = self.settings.model_dump(mode="json")
        for name, block in self.generators.items():
            ours[name] = {name: ours[name], **block} if name in ours else block
            if self.kinds[name] != name:
                ours[name] = {"generator": self.kinds[name], **block}
        return {**self.recbole, "recgen": ours}


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `1e-5` as a number, as RecBole does and YAML 1.1 does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Return the values of a YAML text, or raise `UserError` with the line that is wrong."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "text that is not YAML"
        raise UserError(f"{where}{line}", found=problem, expected="safe YAML") from error


def shipped() -> list[str]:
    """Return the names of the YAMLs in recbole_configs that `--config` takes."""
    folder = files("recbole_configs")
    found = (entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name.removesuffix(".yaml") for name in found if name[:1].islower())


def load_config(source: str, overrides: Iterable[str] = (), memory: Path | None = None) -> Config:
    """Read, override and check a configuration.

    Parameters
    ----------
    source
        A path, or the name of a file in recbole_configs with or without its ending.
    overrides
        ``KEY=VALUE`` strings with dotted keys; values are YAML. One that sets `recgen.encoder` or `recgen.backbone` to a shipped
        model takes what the YAML names beside them (`COMPANIONS`) back to its default, which is shipped.
    memory
        A file that `remember` wrote. Where it holds the generators' blocks for the same YAML and the same code, their packages,
        which import torch and diffusers, are not imported to check them again.

    Raises
    ------
    UserError
        For a missing file, text that is not YAML, an unknown or ill-typed key, or an unknown generator or ranking model.
    """
    text, where = _read(source)
    values = parse_yaml(text, where)
    if not isinstance(values, dict):
        raise UserError(where, found=type(values).__name__, expected="a mapping of keys to values")
    overrides = list(overrides)
    _follow_shipped(values, overrides)
    for override in overrides:
        _open_shared(values)
        _apply(values, override)
    _open_shared(values)
    ours = values.pop("recgen", None) or {}
    if not isinstance(ours, dict):
        raise UserError(f"{where}: recgen", found=type(ours).__name__, expected="a mapping of keys to values")
    if not isinstance(values.get("dataset"), str):
        raise UserError(
            f"{where}: dataset", found=repr(values.get("dataset")), expected="a RecBole data set's name"
        )
    settings = _check(ours, where)
    kinds = {name: _kinds(ours).get(name, name) for name in settings.generators}
    given = {name: _block(ours, name) for name in settings.generators}
    key = digest(
        [given, kinds, [plugins.source(plugins.GENERATORS, kind) for kind in sorted(set(kinds.values()))]]
    )
    listed = _remembered(memory, key) or _blocks(given, kinds, where)
    return Config(Path(source).stem, where, values, settings, kinds=kinds, key=key, **listed)


def remember(config: Config, memory: Path) -> None:
    """Keep the checked blocks of the generators, and what they need, for the next `load_config`."""
    write_json(memory, {"key": config.key, **{field: getattr(config, field) for field in _LISTED}})


_LISTED = ("generators", "needs", "sampling_fields", "backbones", "requires_ip_adapter", "sources")
"""Fields of `Config` that the generators' classes fill in."""


def _remembered(memory: Path | None, key: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(memory.read_text(encoding="utf-8")) if memory is not None else {}
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return {field: kept[field] for field in _LISTED} if kept.get("key") == key else None


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    name = source.removesuffix(".yaml")
    if path.is_file():
        return path.read_text(encoding="utf-8"), source
    if name in shipped():
        return files("recbole_configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml"
    raise UserError(
        f"--config {source}",
        found="no such file",
        expected=f"a path or one of {', '.join(shipped())}",
        todo=nearest(name, shipped()),
    )


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one dotted key in place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}", found="no KEY=VALUE", expected="for example recgen.seed=7")
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
        _open_shared(values)
        generators = plugins.names(plugins.GENERATORS)
        for companion in COMPANIONS:
            block, _, key = companion.rpartition(".")
            if key in generators and isinstance(ours.get(key), dict):
                block = key
            holder = ours.get(block) if block else ours
            if isinstance(holder, dict):
                holder.pop(key, None)


def _open_shared(values: dict[str, Any]) -> None:
    """Turn a setting that has a generator's name, `ip_adapter`, into a block that holds both, in place.

    ``ip_adapter: demo-ip-adapter`` names the adapter, ``ip_adapter: {prompt: none}`` sets the generator; the block's key of its
    own name is the setting: ``ip_adapter: {ip_adapter: demo-ip-adapter, prompt: none}``.
    """
    ours: Any = values.get("recgen")
    for key in plugins.names(plugins.GENERATORS) if isinstance(ours, dict) else []:
        if key in Settings.model_fields and key in ours and not isinstance(ours[key], dict):
            ours[key] = {key: ours[key]}


def _kinds(ours: Mapping[str, Any]) -> dict[str, str]:
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
    """Return what was given for a generator, without the setting of its name and without what it stands for."""
    given = ours.get(name) or {}
    if name in _kinds(ours):
        return {key: value for key, value in given.items() if key != "generator"}
    if name not in Settings.model_fields or not isinstance(given, Mapping):
        return given
    return {key: value for key, value in given.items() if key != name}


def _check(ours: Mapping[str, Any], where: str) -> Settings:
    """Return the `recgen:` block without the generators' own blocks, checked; nothing heavy is imported."""
    kinds = _kinds(ours)
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
    shared = {key: block[key] for key, block in ours.items() if isinstance(block, Mapping) and key in block}
    own = {key: value for key, value in ours.items() if key not in installed}
    own |= {key: value for key, value in shared.items() if key in Settings.model_fields}
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
    if len(set(settings.generators)) < len(settings.generators):
        raise UserError(
            f"{where}: recgen.generators", found=str(settings.generators), expected="each name once"
        )
    for name in settings.generators:
        if name not in kinds:
            plugins.check(plugins.GENERATORS, name, f"{where}: recgen.generators")
    return settings


def _blocks(given: dict[str, Any], kinds: dict[str, str], where: str) -> dict[str, Any]:
    """Return the generators' blocks with their defaults, each checked by its own class, and what the classes say."""
    found: dict[str, Any] = {field: {} for field in _LISTED}
    for name, values in given.items():
        kind = plugins.load(plugins.GENERATORS, kinds[name], f"{where}: recgen.generators")
        block = validate(kind.Config, values, where, f"recgen.{name}")
        found["generators"][name] = block.model_dump(mode="json")
        found["needs"][name] = sorted(kind.needs)
        found["sampling_fields"][name] = sorted(kind.sampling_fields & kind.Config.model_fields.keys())
        found["backbones"][name] = sorted(kind.backbones)
        found["requires_ip_adapter"][name] = kind.requires_ip_adapter(block)
        found["sources"][name] = kind.sources(block)
    return found


def _check_same_judge(ranker: Rankers, where: str) -> None:
    if ranker.same_judge and ranker.reward != ranker.judge:
        raise UserError(
            f"{where}: recgen.ranker.same_judge",
            found=f"true with reward {ranker.reward} and judge {ranker.judge}",
            expected="one model for both",
        )


def validate(model: type[Any], values: Any, where: str, prefix: str) -> Any:
    """Return `model` filled from `values`; the first mistake becomes a `UserError` that names its key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        first = min(
            found, key=lambda one: one["type"] != "extra_forbidden"
        )  # a misspelt key, before the key that it leaves out
        parts = [str(part) for part in first["loc"]]
        key = ".".join([prefix, *parts])
        if first["type"] == "extra_forbidden":
            todo = nearest(parts[-1], _fields(model, parts[:-1]))
            raise UserError(
                f"{where}: {key}", found="an unknown key", expected=f"a key of {prefix}", todo=todo
            ) from error
        message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise UserError(f"{where}: {key}", found=repr(first["input"])[:200], expected=message) from error


def _fields(model: Any, path: list[str]) -> list[str]:
    """Return the field names of the block at `path` below `model`."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", {}))
