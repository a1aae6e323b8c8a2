"""How images are sampled: settings, which import neither torch nor diffusers, and the scheduler behind each sampler's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LCM = "lcm"
LCM_GUIDANCE = 2.0
"""The most guidance that an LCM LoRA bears: it was distilled with guidance in it. A distilled checkpoint takes it as an input."""


class Sampling(BaseModel):
    """How images are sampled; the same for every image of a call.

    In a configuration, what is not said is the backbone's, see `recgen.diffusion.profiles`; the defaults here are for calls from
    Python.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(20, ge=1, description="denoising steps")
    sampler: Literal["ddim", "dpm++2m", "lcm"] = Field(
        "ddim", description="lcm needs recgen.lcm_lora, and 2 to 8 steps"
    )
    guidance_scale: float = Field(7.5, ge=1, description="classifier-free guidance; 1 turns it off")
    ip_adapter_scale: float = Field(1.0, ge=0, description="weight of the image condition; 0 leaves it out")
    batch_size: int = Field(
        32, ge=1, description="images denoised together at first; halved where memory runs out"
    )


def scheduler(sampler: str, trained: Mapping[str, Any]) -> Any:
    """Return the diffusers scheduler of a sampler for a pipeline that was `trained` with a scheduler of this configuration."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler

    kind, changes = {
        "ddim": (DDIMScheduler, {}),
        "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
        LCM: (LCMScheduler, {}),
    }[sampler]
    return kind.from_config(dict(trained), **changes)
