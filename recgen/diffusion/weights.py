"""What weights are, before they are loaded: where they lie, whether they can be had, which family they are of.

Nothing here imports torch or diffusers, so that a mistake is found in the first second of a run and not after its trainings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recgen.assets import asset_folder
from recgen.core.errors import UserError, brief

ADAPTER_FILE = "ip-adapter.safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

_PIPELINES = {
    "StableDiffusionPipeline": "stable-diffusion",  # 1.x and 2.x
    "LatentConsistencyModelPipeline": "stable-diffusion",  # one of them, distilled
    "StableDiffusionXLPipeline": "stable-diffusion-xl",
}
FAMILIES = frozenset(_PIPELINES.values())
"""Families of diffusers pipelines that can be a backbone: one text encoder, or two and a pooled embedding."""


def family(spec: str, key: str = "recgen.backbone") -> str:
    """Return the family of a pipeline by the class that its model_index.json names.

    Parameters
    ----------
    spec
        A shipped model, a diffusers folder or a hub id; of a hub id the index is fetched where it is not cached.
    key
        Where `spec` was read from, for messages.

    Raises
    ------
    UserError
        If there is no such pipeline here nor on the hub, or it is of another family.
    """
    kind = read_json(spec, "model_index.json", key).get("_class_name")
    if kind not in _PIPELINES:
        raise UserError(key, found=f"{spec!r}, a {kind}", expected=" or ".join(_PIPELINES))
    return _PIPELINES[kind]


def read_json(spec: str, file: str, key: str) -> dict[str, Any]:
    """Return a JSON file of a pipeline's folder, or raise `UserError` where the pipeline cannot be had."""
    try:
        folder = asset_folder(spec)
        path = folder / file if folder.exists() else Path(_from_hub(spec, file))
        found = json.loads(path.read_text(encoding="utf-8"))
    except Exception as error:  # the hub raises many kinds; each means the weights cannot be had
        raise missing(key, spec, "a diffusers Stable-Diffusion folder or hub id", error) from error
    return found if isinstance(found, dict) else {}


def local_json(spec: str, file: str) -> dict[str, Any] | None:
    """Return a JSON file of a pipeline's folder, or of the hub's cache; None where it is not here. Nothing is fetched."""
    folder = asset_folder(spec)
    path: Path | None = folder / file
    if not folder.exists():
        path = _from_cache(spec, file)
    if path is None or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None  # `read_json` says what is wrong with it, before anything starts
    return found if isinstance(found, dict) else None


def _from_cache(repository: str, file: str) -> Path | None:
    if not _HUB_ID.fullmatch(repository):
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repository, file)
    except ValueError:
        return None  # no name that a repository can have
    return Path(found) if isinstance(found, str) else None


def weight_file(spec: str, file: str) -> tuple[str, str, str]:
    """Split the name of an adapter or LoRA into what diffusers asks for: repository or folder, subfolder, file.

    Parameters
    ----------
    spec
        A shipped adapter, a safetensors file, a folder that holds `file`, a hub id whose repository holds `file`, or a file in a
        hub repository, ``h94/IP-Adapter/models/ip-adapter_sd15.safetensors``.
    """
    path = asset_folder(spec)
    if path.is_dir():
        return str(path), "", file
    if path.is_file():
        return str(path.parent), "", path.name
    owner, repository, *folders, named = spec.split("/") if spec.count("/") >= 2 else ("", spec, file)
    return f"{owner}/{repository}".strip("/"), "/".join(folders), named


def is_distilled(spec: str, key: str) -> bool:
    """Return whether a pipeline is a latent consistency model itself, and needs no LoRA to sample with lcm."""
    return read_json(spec, "unet/config.json", key).get("time_cond_proj_dim") is not None


def samples_with_lcm(block: Any) -> bool:
    """Return whether a generator's block, or one inside it, names the sampler lcm."""
    if not isinstance(block, Mapping):
        return False
    return block.get("sampler") == "lcm" or any(samples_with_lcm(value) for value in block.values())


def _from_hub(repository: str, file: str) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(repository, file)


def missing(key: str, spec: str, expected: str, error: Exception) -> UserError:
    """Return the error of weights that cannot be had."""
    return UserError(
        key,
        found=f"{spec!r}, which cannot be loaded ({brief(error)})",
        expected=f"{expected} that is here or can be downloaded",
        todo="Fetch it once on a machine with a network, or set the key to a local folder or a shipped model "
        "(demo-sd, demo-ip-adapter).",
    )
