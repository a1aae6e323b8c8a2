"""How each kind of backbone is sampled, as its publishers say; nothing here imports torch or diffusers.

A method says how it uses the image condition (beside text, alone, or in I-AM-G's decoupled sum), the profile of the backbone how
strong that is. What a configuration says itself wins over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recgen.diffusion.sampling import LCM
from recgen.diffusion.weights import local_json

ImageUse = Literal["beside text", "alone", "decoupled"]
"""How a method conditions on an image: with the item's text, without any text, or as the image's part s of I-AM-G's eq. 13."""
ProfileName = Literal["auto", "demo-sd", "sd15", "sd2", "sdxl", "lcm"]

_PUBLISHED: Mapping[ImageUse, float] = {"beside text": 0.5, "alone": 1.0, "decoupled": 1.0}
# IP-Adapter's guide in diffusers: 0.5 balances text and image, 1.0 is the image only; I-AM-G, eq. 13: s = 1


@dataclass(frozen=True)
class Profile:
    """A kind of backbone.

    Attributes
    ----------
    name
        Its name in YAML, `recgen.profile`.
    sampler, steps, guidance_scale
        How it is sampled.
    image_scale
        `ip_adapter_scale` by how the image is used.
    batch_size
        Images denoised together at first; halved where memory runs out.
    gradient_checkpointing
        Whether training against it recomputes activations in the backward pass.
    distilled
        Whether guidance is one of the UNet's inputs, so that the sampler lcm bears more than little of it.
    """

    name: str
    sampler: str
    steps: int
    guidance_scale: float
    image_scale: Mapping[ImageUse, float] = field(default_factory=lambda: dict(_PUBLISHED))
    batch_size: int = 8
    gradient_checkpointing: bool = True
    distilled: bool = False

    def sampling(self, use: ImageUse, sampler: str | None = None) -> dict[str, Any]:
        """Return the fields of a `recgen.diffusion.sampling.Sampling` for a use of the image condition.

        Parameters
        ----------
        use
            How the method uses the image.
        sampler
            The sampler that the configuration asks for, if it does: an LCM LoRA asks for few steps and no guidance.
        """
        found = {
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "ip_adapter_scale": self.image_scale[use],
            "batch_size": self.batch_size,
        }
        if sampler == LCM and not self.distilled:
            found |= {"steps": 4, "guidance_scale": 1.0}  # cards of lcm-lora-sdv1-5 and lcm-lora-sdxl
        return found


PROFILES = {
    profile.name: profile
    for profile in (
        # recgen/assets/CARD.md: measured at 15 DDIM steps and guidance 3; its adapter was trained at scale 1 beside text. The
        # decoupled scale is the best of experiments/iamg_lambdas.
        Profile(
            "demo-sd",
            "ddim",
            15,
            3.0,
            {"beside text": 1.0, "alone": 1.0, "decoupled": 0.3},
            batch_size=32,
            gradient_checkpointing=False,
        ),
        # Cards of stable-diffusion-v1-5 and stable-diffusion-2: 50 DDIM or PLMS steps; guidance 7.5 is StableDiffusionPipeline's.
        Profile("sd15", "ddim", 50, 7.5, batch_size=8),
        Profile("sd2", "ddim", 50, 7.5, batch_size=4),
        # StableDiffusionXLPipeline's own: 50 steps, guidance 5.
        Profile("sdxl", "ddim", 50, 5.0, batch_size=2),
        # diffusers' guide to latent consistency models, for a distilled checkpoint: 4 steps, guidance 8 (an input of the UNet).
        Profile("lcm", LCM, 4, 8.0, batch_size=8, distilled=True),
    )
}

_IDS = {
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/sdxl-turbo"),
    "sd2": ("stabilityai/stable-diffusion-2", "stabilityai/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-base",
            "stabilityai/stable-diffusion-2-1-base"),
    "lcm": ("simianluo/lcm_dreamshaper_v7",),
}  # fmt: skip
_KNOWN = {identity: name for name, ids in _IDS.items() for identity in ids}
_SD15_WIDTH, _SD2_WIDTH = 768, 1024  # of the text encoders of Stable Diffusion 1.x and 2.x


def recognise(spec: str) -> Profile | None:
    """Return the profile of a pipeline by its folder's configuration, the hub's cache or its id; None where none of them tells.

    Parameters
    ----------
    spec
        A shipped model, a diffusers folder or a hub id. Nothing is fetched.

    Examples
    --------
    >>> recognise("demo-sd").name, recognise("stabilityai/stable-diffusion-xl-base-1.0").name
    ('demo-sd', 'sdxl')
    """
    index, unet = local_json(spec, "model_index.json"), local_json(spec, "unet/config.json")
    if index is None or unet is None:
        name = _KNOWN.get(spec.lower())
        return PROFILES[name] if name else None
    if unet.get("time_cond_proj_dim") is not None:
        return PROFILES["lcm"]
    if index.get("_class_name") == "StableDiffusionXLPipeline":
        return PROFILES["sdxl"]
    width = unet.get("cross_attention_dim")
    return PROFILES["sd15" if width == _SD15_WIDTH else "sd2" if width == _SD2_WIDTH else "demo-sd"]


def profile_of(spec: str, named: ProfileName = "auto") -> Profile:
    """Return the profile that a configuration names, or that of the pipeline; sd15, the commonest, where it cannot be told yet.

    A hub id is told for certain once it is here: `recgen.pipeline.preflight` then refuses one that was taken for another.
    """
    if named != "auto":
        return PROFILES[named]
    return recognise(spec) or PROFILES["sd15"]
