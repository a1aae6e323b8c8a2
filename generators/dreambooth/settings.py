"""Settings of dreambooth."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, model_validator

from generators.common.settings import PLACE, GroupedConfig, Template
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Held

_UNET_A_RANK = 4300  # parameters of the UNet for each of a LoRA of rank 1 on its attentions' four projections


class Settings(GroupedConfig):
    """What dreambooth's block of the YAML accepts."""

    sampling_fields = frozenset({"negative_prompt"})  # fit draws the prior's images as decode says

    clusters: int = Field(
        8, ge=1, description="groups of users, by k-means on the mean embedding of what they liked"
    )
    template: Template = PLACE
    rank: int = Field(4, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    prior_weight: float = Field(
        0.0, ge=0, description="of the loss on the backbone's own images of items' texts; 0 for none"
    )
    prior_images: int = Field(64, ge=1, description="how many of them, shared by all clusters")

    @model_validator(mode="after")
    def _prior_has_another_prompt(self) -> Settings:
        if self.prior_weight > 0 and self.template == PLACE:
            raise ValueError(
                "with prior_weight, a template that says more than {text}, such as '{text}, in sks style'"
            )
        return self

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's rows and a LoRA on the UNet's attention: 0.8 million parameters at rank 4 on Stable Diffusion 1.5."""
        trained = self.rank * network.unet / _UNET_A_RANK
        prior = min(self.prior_images, self.decode.batch_size) if self.prior_weight else 0
        return replace(super().held(sizes, network, language), trained=trained, sampled=prior)
