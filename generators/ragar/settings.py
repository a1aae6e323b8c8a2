"""RAGAR's settings: the paper's values where it gives any; where it gives none, or where they were seen to fail, ours."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from generators.common.settings import LearningConfig
from recgen.diffusion.sampling import Sampling


class Settings(LearningConfig):
    """What RAGAR's block of the YAML accepts.

    The estimator of the policy gradient (eqs. 11-15) has three settings. The paper's is ``action: tokens, noise: own,
    pairs: single, r: 3``: it acts on all condition tokens at once and draws decoding noise anew for every sample. The default
    acts on the few coefficients of the calibrator's correction, decodes the samples of a request from one noise, so that they
    differ by their action only, and tries every perturbation together with its mirror image.
    """

    needs = frozenset({"captions", "keywords"})

    k: int = Field(5, ge=0, description="items retrieved from the history; 0 weighs the whole history alike")

    action: Literal["preference", "tokens"] = "preference"
    directions: int = Field(
        8, ge=0, description="leading directions of the catalogue along which a preference is corrected"
    )
    noise: Literal["shared", "own"] = "shared"
    pairs: Literal["antithetic", "single"] = "antithetic"
    r: int = Field(
        3, ge=0, description="perturbations per request; antithetic pairs draw two images for each"
    )
    sigma: float = Field(0.3, gt=0, description="their scale")
    delta: float = Field(0.1, description="margin of the reward, eq. 14")
    reward_sign: Literal["corrected", "as_printed"] = Field(
        "corrected",
        description="as_printed is eq. 14 to the letter, which rewards images that score below the reference",
    )

    alpha: float = Field(1.0, ge=0, description="weight of the calibrator loss, eq. 10")
    beta: float = Field(
        1.0, ge=0, description="weight of the rank loss, eq. 15; 0 trains without the recommender"
    )
    gamma: float = Field(1.0, ge=0, description="weight of the semantic loss, eq. 16")

    learning_rate: float = Field(
        1e-5, gt=0, description="falls to zero over max_steps, as calibrator_rate does"
    )
    calibrator_rate: float = Field(
        3e-2, gt=0, description="learning rate of the balance, the correction that all users share"
    )
    train_decode: Sampling = Field(
        Sampling.model_validate({"steps": 5, "sampler": "dpm++2m", "guidance_scale": 3.0}),
        description="how the images of a training step are sampled: fewer steps than creatives",
    )

    def requires_ip_adapter(self) -> bool:
        """Return True: a preference is an image embedding; with `tokens`, eq. 10 still compares them with its image tokens."""
        return True
