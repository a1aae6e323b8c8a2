"""Settings of preferred; nothing here imports torch."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, model_validator

from generators.common.settings import TrainingConfig
from generators.taste.settings import Settings as TasteSettings
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload, sampled


class Settings(TasteSettings, TrainingConfig):
    """What preferred's block of the YAML accepts: what taste's does, and how the adapter learns."""

    presets = TasteSettings.presets

    looks: tuple[int, ...] = Field(
        (1, 3, 20, 80), min_length=2, description="values of k whose images are compared"
    )
    noises: int = Field(2, ge=1, description="images drawn from each of them; their mean score ranks them")
    beta: float = Field(
        1.0, gt=0, description="beta of DiffusionNFT: the smaller, the further from where learning starts"
    )
    rank: int = Field(8, ge=1, description="of the change of each key and value projection")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    requests_per_step: int = Field(16, ge=1, description="pairs a step")
    max_steps: int = Field(80, ge=1)
    evaluate_every: int = Field(20, ge=1)
    train_users: int = Field(
        64, ge=1, description="users learned from, at most; users drawn by the run's seed"
    )
    held_out_users: int = Field(16, ge=1, description="users who decide when to stop; never learned from")
    references_per_user: int = Field(
        1, ge=1, description="latest likes of a user for which images are compared"
    )

    @model_validator(mode="after")
    def _an_image_is_shown(self) -> Settings:
        if self.show == "words":
            raise ValueError("show: image or both, for it is the image's adapter that learns")
        return self

    def workload(self, requests: int, users: int) -> Workload:
        """Return taste's work, the images that are compared, and training, which predicts both images of a pair twice."""
        taste = TasteSettings.workload(self, requests, users)
        held, steps, evaluations = self.learned(users)
        examples = min(users, self.train_users) * self.references_per_user + held
        images = examples * len(self.looks) * self.noises
        drawn = sampled(images, self.decode.steps, self.decode.guidance_scale)
        rows = 2 * self.requests_per_step * steps
        measured = 2 * 2 * evaluations * held * self.noises
        trained = Effort(trained=rows, evaluations=rows + measured, encoded=images, steps=steps)
        return Workload(taste.fit + drawn + trained, taste.draw)

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a batch of images that are compared, a step's rows, and the low-rank part."""
        training = TrainingConfig.held(self, sizes, network, language)
        return replace(
            training,
            trained=network.adapter * min(1.0, 2 * self.rank / network.text_width),
            gradients=2 * training.gradients,
            measured=2 * training.measured,
            sampled=self.decode.batch_size,
        )
