"""What weights are, before they are loaded: where they lie, whether they can be had, which generators can use them.

Nothing here imports torch or diffusers, so that a mistake is found in the first second of a run and not after its trainings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgen.assets import asset_folder
from recgen.core.errors import UserError, brief

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext

ADAPTER_FILE = "ip-adapter.safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"

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


def check_compatibility(run: RunContext) -> Iterator[UserError]:
    """Yield an error for each generator of a run that cannot draw with the pipeline that the configuration names for it.

    The pipelines are here, or can be fetched: `recgen.pipeline.preflight` has made sure.
    """
    s = run.settings
    for name, able in run.config.backbones.items():
        if not able:
            continue
        block = run.config.generators[name]
        own = block.get("checkpoint")
        key, spec = ("recgen.backbone", s.backbone) if own is None else (f"recgen.{name}.checkpoint", own)
        found = family(spec, key)
        if found not in able:
            yield UserError(
                f"recgen.generators: {name}",
                found=f"{spec!r}, a pipeline of the family {found}",
                expected=f"{' or '.join(able)}, which is what {name} can draw with",
                todo=f"Leave {name} out, or set {key} to another pipeline.",
            )
        if run.config.requires_ip_adapter[name] and s.ip_adapter is None:
            yield UserError(
                "recgen.ip_adapter",
                found=f"null, and {name} draws from image embeddings",
                expected=f"an IP-Adapter for {spec!r}",
                todo=f"Set recgen.ip_adapter to a hub id, folder or file, or leave {name} out.",
            )
        if samples_with_lcm(block) and s.lcm_lora is None and not _distilled(spec, key):
            yield UserError(
                "recgen.lcm_lora",
                found=f"null, and {name} samples with lcm",
                expected=f"an LCM LoRA for {spec!r}, or a backbone that is distilled itself",
                todo="Set recgen.lcm_lora to a hub id, folder or file, or sample with ddim or dpm++2m.",
            )


def _distilled(spec: str, key: str) -> bool:
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
