"""REBECA's settings: the paper's values are the defaults, its baselines and ablations are other values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from generators.common.settings import PAPER_DECODE, QUICK_DECODE
from generators.settings import GeneratorConfig
from recgen.diffusion.profiles import ImageUse
from recgen.diffusion.sampling import Sampling
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload

PROMPTS: dict[str, tuple[str, str]] = {
    "T0": ("", ""),
    "T1": ("high quality photo", "bad quality photo, letters"),
    "T2": (
        "Realistic image, finely detailed, with balanced composition and harmonious elements. Dynamic yet subtle tones, "
        "versatile style adaptable to diverse themes and aesthetics, prioritizing clarity and authenticity.",
        "deformed, ugly, wrong proportion, frame, watermark, low res, bad anatomy, worst quality, low quality",
    ),
}
"""Positive and negative prompt of each level: none, short, long, as printed in section 4.3: the baselines are these words."""


_TRAINED_ROW, _MEASURED_ROW = (
    51,
    27,
)  # activations of a row for each layer and unit of width, with gradients and without
_MEASURED = 2_048  # rows of held-out likes measured together, each under two noises
_PRIOR_STEP = 2 * 64**2 * 1_280
"""Layers x width^2 x rows of a step of the prior that counts as one: the demo's."""


class Settings(GeneratorConfig):
    """What REBECA's block of the YAML accepts.

    | paper | settings |
    | --- | --- |
    | REBECA (default) | ``condition: prior, prompt: T0`` |
    | T0, T1, T2 (section 4.3) | ``condition: none, prompt: T0`` / ``T1`` / ``T2`` |
    | REBECA-T1, REBECA-T2 (table 2) | ``prompt: T1`` / ``T2`` |
    | REBECA-NoUE (table 2) | ``user_embeddings: false`` |

    The paper's training takes minutes on a GPU, for it has to learn what user and rating mean together before it tells users
    apart at all. For seconds on a CPU there are ``ratings: likes``, ``prediction: v_prediction`` (the same process and network,
    whose loss does not fade where the noise is strong and taste decides) and more users with fewer images in a step.
    """

    presets = {
        "quick": {
            "layers": 2,
            "heads": 4,
            "width": 64,
            "ratings": "likes",
            "prediction": "v_prediction",
            "learning_rate": 4.0e-3,
            "users_per_step": 160,
            "images_per_user": 8,
            "max_steps": 300,
            "patience": 3,
            "guidance": 5.0,
            "prior_steps": 20,
            "decode": QUICK_DECODE,
        },
        "paper": {"decode": PAPER_DECODE},  # all else is the paper's by default
    }

    condition: Literal["prior", "none"] = "prior"
    prompt: Literal["T0", "T1", "T2"] = "T0"
    user_embeddings: bool = True

    layers: int = Field(8, ge=1)
    heads: int = Field(16, ge=1)
    width: int = Field(128, ge=2, description="not in the paper; the authors' repository has 128")
    user_tokens: int = Field(4, ge=1)
    image_tokens: int = Field(1, ge=1)
    noise_schedule: Literal["squaredcos_cap_v2", "linear"] = "squaredcos_cap_v2"
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    train_timesteps: int = Field(1000, ge=2)

    ratings: Literal["all", "likes"] = Field(
        "all", description="likes trains on R = 1 only, and learns far sooner"
    )
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    condition_drop: float = Field(0.1, ge=0, lt=1)
    images_per_user: int = Field(80, ge=1)
    users_per_step: int = Field(16, ge=1)
    max_steps: int = Field(20_000, ge=1)
    held_out: float = Field(
        0.05, gt=0, lt=1, description="share of every user's likes that early stopping looks at"
    )
    evaluate_every: int = Field(100, ge=1)
    patience: int = Field(
        10, ge=1, description="evaluations without a better held-out loss before training stops"
    )

    guidance: float = Field(10.0, ge=0, description="omega of classifier-free guidance")
    prior_steps: int = Field(50, ge=1)
    eta: float = Field(0.0, ge=0, le=1, description="0 is DDIM; 1 with prior_steps = train_timesteps is DDPM")
    decode: Sampling = Sampling.model_validate({})

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.prior_steps > self.train_timesteps:
            raise ValueError(
                f"prior_steps {self.prior_steps} must not exceed train_timesteps {self.train_timesteps}"
            )
        return self

    def requires_ip_adapter(self) -> bool:
        """Return whether the prior draws: it makes image embeddings."""
        return self.condition == "prior"

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work: the prior is a small network of its own, whose steps are counted by its size and batch."""
        draw = super().workload(requests, users).draw
        if self.condition == "none":
            return Workload(draw=draw)
        steps = min(self.max_steps, (10 + self.patience) * self.evaluate_every)
        rows = self.users_per_step * self.images_per_user
        size = self.layers * self.width**2 * rows / _PRIOR_STEP
        return Workload(
            Effort(steps=steps * size), draw + Effort(steps=self.prior_steps * requests / rows * size)
        )

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return the prior's weights, and the activations of a step's rows or of the held-out likes."""
        if self.condition == "none":
            return Held()
        tables = sizes.users * self.user_tokens + 2 * self.image_tokens * network.image_width
        measured = min(2 * self.held_out * sizes.likes, _MEASURED)
        rows = max(_TRAINED_ROW * self.users_per_step * self.images_per_user, _MEASURED_ROW * measured)
        trained = self.width * (12 * self.layers * self.width + tables)
        return Held(trained=trained, own=rows * self.layers * self.width)

    def image_use(self) -> ImageUse:
        """Return whether the prior's image stands beside one of the prompts or alone."""
        return "alone" if self.prompt == "T0" else "beside text"


class PromptSettings(Settings):
    """Defaults of T0: no image condition, no prompt."""

    condition: Literal["prior", "none"] = "none"


class ShortPromptSettings(PromptSettings):
    """Defaults of T1: no image condition, the short prompt."""

    prompt: Literal["T0", "T1", "T2"] = "T1"


class LongPromptSettings(PromptSettings):
    """Defaults of T2: no image condition, the long prompt."""

    prompt: Literal["T0", "T1", "T2"] = "T2"


class NoUESettings(Settings):
    """Defaults of REBECA-NoUE: a prior that is not told the user."""

    user_embeddings: bool = False
