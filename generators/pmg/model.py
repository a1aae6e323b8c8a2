"""PMG's network: a user's keywords, read by the language model, as tokens that condition the UNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from generators.pmg.settings import Settings
from generators.ragar.preference import PreferenceExtractor, Shape
from recgen.diffusion import Backbone
from recgen.features.language import LanguageModel
from recgen.features.prompts import preference_prompt

_PARTS = ("decoder.", "image_tokens", "mapper.")
"""Of RAGAR's extractor what PMG trains: LoRA, the multimodal tokens and the mapper. It has no fusing attention."""


class Reader(nn.Module):
    """Keywords to condition: the mapper's tokens, then the keywords through the backbone's text encoder.

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
        sizes = settings.model_dump(include=set(Shape.__dataclass_fields__) - {"condition_width"})
        self.extractor = PreferenceExtractor(
            language_model, Shape(backbone.condition_width, **sizes), run_seed
        )
        self.backbone = backbone
        self.to(backbone.pipeline.device)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(
                parameter.requires_grad and name.removeprefix("extractor.").startswith(_PARTS)
            )

    def forward(self, keywords: Sequence[Sequence[str]]) -> Tensor:
        """Return the preference ``[B, Q + K, width]`` of users by their keywords: soft preference embeddings, then E_key."""
        features = self.backbone.embed_prompts([", ".join(words) for words in keywords]).float()
        read = self.extractor([preference_prompt(words) for words in keywords], features)
        soft = read.multimodal[:, -self.extractor.shape.mapper_queries :]
        return torch.cat([soft, features], 1)

    def trained(self) -> dict[str, Tensor]:
        """Return the parameters that train, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


def blend(preference: Tensor, target: Tensor, nothing: Tensor, weight: float) -> Tensor:
    """Return the condition ``[B, P + T, width]`` of the preference with weight w and the target with weight 1 - w, side by side.

    Parameters
    ----------
    preference, target
        ``[B, P, width]`` and ``[B, T, width]``, P at least T; the preference ends in a prompt's T tokens.
    nothing
        The empty prompt's tokens ``[T, width]``, which the UNet knows from guidance: a weight moves each token from there. A
        token times its weight would end in zeros, which the UNet has never seen.
    weight
        w, from 0 to 1.
    """
    before = nothing[-1:].expand(preference.shape[1] - len(nothing), -1)
    none = torch.cat([before, nothing])
    return torch.cat(
        [
            torch.lerp(none.expand_as(preference), preference, weight),
            torch.lerp(nothing.expand_as(target), target, 1 - weight),
        ],
        1,
    )
