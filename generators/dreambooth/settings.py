"""Settings of dreambooth."""

from __future__ import annotations

from pydantic import Field, model_validator

from generators.common.settings import PLACE, GroupedConfig, Template


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
