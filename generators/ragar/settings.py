"""RAGAR's settings. The defaults are repaired where the published form learns nothing; ``preset: paper`` restores it."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from generators.common.settings import PAPER_DECODE, QUICK_DECODE, LearningConfig
from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload, sampled

logger = logging.getLogger("recgen")

PAPER: dict[str, Any] = {
    "retrieve_from": "history",
    "weights": "similarity",
    "net_of_content": False,
    "k": 5,
    "action": "tokens",
    "noise": "own",
    "pairs": "single",
    "r": 3,
    "clamp": True,
    "distance": "sum",
    "learning_rate": 1e-5,
}
"""What ``preset: paper`` sets: equations 3-17 and the values of section 5.1."""

_TRAIN_STEPS = 5


class Settings(LearningConfig):
    """What RAGAR's block of the YAML accepts.

    Where the defaults depart from the paper, and why:

    - *Retrieval.* The paper searches the user's history by similarity to the item alone. The default asks the recommender about
      the whole catalogue: the weights are softmax(reward / tau + kappa similarity), with of the reward what the items' texts
      do not explain.
    - *Action.* The paper acts on all condition tokens at once and draws new decoding noise for every sample. The default acts
      on the few coefficients of the calibrator's correction, decodes the samples of a request from one noise, so that they
      differ by their action only, and tries every perturbation together with its mirror image.
    - *Reward.* Eq. 14 cuts differences at zero, so that images below both references give no gradient. The default does not.
    - *Distances.* Eqs. 10 and 16 sum over the width, so that alpha and gamma mean something else at every width. The default
      takes the mean.

    ``preset: paper`` sets all of these at once; keys given beside it win.
    """

    needs = frozenset({"captions", "keywords"})
    presets = {
        "quick": {
            "r": 2,
            "directions": 6,
            "max_steps": 6,
            "evaluate_every": 3,
            "train_users": 200,
            "held_out_users": 24,
            "train_decode": {"steps": 4},
            "decode": QUICK_DECODE,
        },
        "paper": {"preset": "paper", "decode": PAPER_DECODE},
    }

    preset: Literal["repaired", "paper"] = Field(
        "repaired", description="paper sets the published form; keys given beside it win"
    )

    retrieve_from: Literal["history", "catalogue", "both"] = Field(
        "both", description="which items' images may form P_ret; the item itself is never among them"
    )
    weights: Literal["reward", "similarity"] = Field(
        "reward",
        description="reward: softmax(reward / tau + kappa similarity); similarity: eq. 5, of a history only",
    )
    net_of_content: bool = Field(
        True,
        description="rank by what the items' texts do not explain of the reward: no image changes a liking of contents",
    )
    k: int = Field(5, ge=0, description="items retrieved; 0 weighs the whole history alike")
    tau: float = Field(
        0.5,
        gt=0,
        description="temperature of the reward, in the user's standard deviations over the catalogue",
    )
    kappa: float = Field(
        1.0, ge=0, description="weight of the captions' cosine similarity against reward / tau"
    )

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
    clamp: bool = Field(
        False,
        description="eq. 14's max(0, .): images that score below both references all give the same reward",
    )
    reward_sign: Literal["corrected", "as_printed"] = Field(
        "corrected",
        description="as_printed is eq. 14 to the letter, which rewards images that score below the reference",
    )

    distance: Literal["mean", "sum"] = Field(
        "mean", description="squared distances of eqs. 10 and 16: mean or sum over the width"
    )
    alpha: float = Field(1.0, ge=0, description="weight of the calibrator loss, eq. 10")
    beta: float = Field(
        1.0, ge=0, description="weight of the rank loss, eq. 15; 0 trains without the recommender"
    )
    gamma: float = Field(1.0, ge=0, description="weight of the semantic loss, eq. 16")

    learning_rate: float = Field(1e-4, gt=0, description="of all that trains; falls to zero over max_steps")
    train_decode: Sampling = Field(
        Sampling.model_validate({"steps": _TRAIN_STEPS}),
        description=f"how images are sampled in training: as decode says, but for what is given here and {_TRAIN_STEPS} steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Complete what was given: by the preset, and `train_decode` by `decode`."""
        if not isinstance(values, dict):
            return values
        filled = {**(PAPER if values.get("preset") == "paper" else {}), **values}
        if filled.pop("calibrator_rate", None) is not None:
            logger.warning(
                "ragar.calibrator_rate is gone: ragar.learning_rate, 1e-4 by default, is of all that trains"
            )
        try:
            decode = Sampling.model_validate(filled.get("decode") or {}).model_dump()
        except ValidationError:
            return filled  # the field's own check says what is wrong, and where
        own = filled.get("train_decode") or {}
        own = own.model_dump() if isinstance(own, Sampling) else own
        if isinstance(own, dict):
            filled["train_decode"] = {**decode, "steps": min(_TRAIN_STEPS, decode["steps"]), **own}
        return filled

    @model_validator(mode="after")
    def _retrieval_is_possible(self) -> Settings:
        if self.retrieve_from != "history" and self.weights == "similarity":
            raise ValueError(f"retrieve_from: {self.retrieve_from} needs weights: reward")
        if self.retrieve_from != "history" and self.k == 0:
            raise ValueError(f"retrieve_from: {self.retrieve_from} needs k > 0")
        return self

    @property
    def learns_from_reward(self) -> bool:
        """Whether training asks the recommender."""
        return self.beta > 0 and self.r > 0

    @property
    def retrieves_by_reward(self) -> bool:
        """Whether retrieval asks the recommender, in training and in drawing."""
        return self.weights == "reward" and self.k > 0

    @property
    def samples(self) -> int:
        """Images drawn for one request of a training step."""
        return 2 * self.r if self.pairs == "antithetic" else self.r

    def requires_ip_adapter(self) -> bool:
        """Return True: a preference is an image embedding; with `tokens`, eq. 10 still compares them with its image tokens."""
        return True

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work: a step draws all samples of its requests, an evaluation one image a held-out user."""
        held, steps, evaluations = self.learned(users)
        drawn = steps * self.requests_per_step * (self.samples + self.clamp) if self.learns_from_reward else 0
        images = drawn + evaluations * held * self.learns_from_reward
        texts = 3 * steps * self.requests_per_step + evaluations * held
        sampling = self.train_decode
        fit = sampled(images, sampling.steps, sampling.guidance_scale) + Effort(texts=texts, steps=steps)
        draw = GeneratorConfig.workload(self, requests, users).draw + Effort(texts=requests)
        return Workload(fit, draw)

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's users, read while their images are drawn; the UNet has no part in the gradients."""
        images = self.requests_per_step * self.samples if self.learns_from_reward else 0
        trained = self.extractor_parameters(network, language)
        return Held(trained=trained, sampled=images, read=self.requests_per_step)
