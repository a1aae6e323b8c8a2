"""PMG's network: a user's keywords, read by the language model, as tokens that condition the UNet beside the item's text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from generators.pmg.settings import Settings
from generators.ragar.preference import PreferenceExtractor, Shape
from recgen.diffusion.backbone import Backbone
from recgen.features.language import LanguageModel

_PARTS = ("decoder.", "image_tokens", "mapper.")
"""Of RAGAR's extractor what PMG trains: LoRA, the multimodal tokens and the mapper. It has no fusing attention."""


class PreferenceEncoder(nn.Module):
    """Keywords and text to condition.

    The preference are soft embeddings, which the mapper makes of the language model's states, and then the keywords through the
    backbone's text encoder. The soft embeddings start as tokens that say nothing: training starts from the keywords alone.

    Parameters
    ----------
    language_model, backbone
        The run's.
    settings
        PMG's.
    run_seed
        Seed of the new weights.
    """

    def __init__(
        self, language_model: LanguageModel, backbone: Backbone, settings: Settings, run_seed: int
    ) -> None:
        super().__init__()
        shape = Shape.of(settings, backbone.condition_width)
        self.extractor = PreferenceExtractor(language_model, shape, run_seed, backbone.checkpoints_gradients)
        self.backbone = backbone
        for parameter in self.extractor.mapper.out.parameters():
            nn.init.zeros_(parameter)
        self.to(backbone.device)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(
                parameter.requires_grad and name.removeprefix("extractor.").startswith(_PARTS)
            )

    def forward(
        self, keywords: Sequence[Sequence[str]], texts: Sequence[str], weights: Sequence[float]
    ) -> Tensor:
        """Return the condition ``[B, Q + K + T, width]``: preference with weight w (`weights`, one each), text with 1 - w."""
        target = self.backbone.embed_prompts(texts).float()
        return blend(self.preference(keywords), target, self.nothing(), torch.tensor(weights).to(target))

    def preference(self, keywords: Sequence[Sequence[str]]) -> Tensor:
        """Return ``[B, Q + K, width]``: soft preference embeddings, then E_key."""
        features = self.backbone.embed_prompts([", ".join(words) for words in keywords]).float()
        read = self.extractor([self.extractor.prompt(words) for words in keywords], features)
        soft = read.multimodal[:, -self.extractor.shape.mapper_queries :]
        return torch.cat([self.nothing()[-1] + soft, features], 1)

    def nothing(self) -> Tensor:
        """Return the empty prompt's tokens ``[T, width]``."""
        return self.backbone.embed_prompts([""])[0].float()


def blend(preference: Tensor, target: Tensor, nothing: Tensor, weights: Tensor) -> Tensor:
    """Return the condition ``[B, P + T, width]`` of preferences with weights w and targets with weights 1 - w, side by side.

    Parameters
    ----------
    preference, target
        ``[B, P, width]`` and ``[B, T, width]``, P at least T; the preference ends in a prompt's T tokens.
    nothing
        The empty prompt's tokens ``[T, width]``, which the UNet knows from guidance: a weight moves each token from there. A
        token times its weight would end in zeros, which the UNet has never seen.
    weights
        w ``[B]``, from 0 to 1.
    """
    before = nothing[-1:].expand(preference.shape[1] - len(nothing), -1)
    none, w = torch.cat([before, nothing]), weights[:, None, None]
    return torch.cat([none + w * (preference - none), nothing + (1 - w) * (target - nothing)], 1)
