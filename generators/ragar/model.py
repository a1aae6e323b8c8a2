"""RAGAR's network as a whole: from what is known of a request to the preference its image is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from generators.common.training import trainable
from generators.ragar.calibrator import Calibrator, Scale
from generators.ragar.examples import Example
from generators.ragar.preference import Preference, PreferenceExtractor, Shape
from generators.ragar.settings import Settings
from recgen.diffusion.backbone import Backbone
from recgen.features.language import LanguageModel

_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Output:
    """What the network says of a batch of examples.

    Attributes
    ----------
    action
        The mean of the policy: coefficients of the correction ``[B, 2 + m]`` (`Calibrator`), or tokens ``[B, T, width]``.
    liked
        The means of the histories, points ``[B, D]``.
    general, retrieved
        The two sides of the calibrator loss, ``[B, d]``.
    multimodal
        E_m averaged over its tokens ``[B, width]``, a side of the semantic loss; the other is `Model.semantics`.
    """

    action: Tensor
    liked: Tensor
    general: Tensor
    retrieved: Tensor
    multimodal: Tensor


class Model(nn.Module):
    """Preference extractor and calibrator over a frozen backbone.

    Parameters
    ----------
    language_model, backbone
        The run's.
    scale
        Where the catalogue's image embeddings lie.
    settings
        RAGAR's.
    run_seed
        Seed of the new weights.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        backbone: Backbone,
        scale: Scale,
        settings: Settings,
        run_seed: int,
    ) -> None:
        super().__init__()
        shape = Shape.of(settings, backbone.condition_width)
        self.extractor = PreferenceExtractor(language_model, shape, run_seed, backbone.checkpoints_gradients)
        self.calibrator = Calibrator(shape.condition_width, scale.directions)
        self.backbone, self.settings = backbone, settings
        device = backbone.device
        self.scale = scale.to(device)
        self.to(device)

    def forward(self, examples: Sequence[Example]) -> Output:
        """Return the preferences of examples and what the losses compare of them."""
        read, retrieved = self._read(examples)
        liked = self._points([example.liked for example in examples])
        multimodal = read.pooled_multimodal()
        if self.settings.action == "tokens":
            projected = self.backbone.image_tokens(self.scale.invert(retrieved)).float().mean(1)
            return Output(read.tokens, liked, read.pooled(), projected, multimodal)
        action = self.calibrator(read.pooled(), multimodal, retrieved)
        point = self.calibrator.corrected(action[:, None], retrieved, liked)[:, 0]
        return Output(action, liked, point, retrieved, multimodal)

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> None:
        """Fix the calibrator's inputs by what the training examples are at the start; they are read in small batches."""
        batches = [
            self._read(examples[start : start + _AT_ONCE]) for start in range(0, len(examples), _AT_ONCE)
        ]
        read, retrieved = [made for made, _ in batches], torch.cat([points for _, points in batches])
        general, language = torch.cat([r.pooled() for r in read]), [r.pooled_multimodal() for r in read]
        self.calibrator.measure(general, torch.cat(language), retrieved)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: all that trains, and the calibrator's measured inputs."""
        measured = {
            f"calibrator.inputs.{name}": value for name, value in self.calibrator.inputs.named_buffers()
        }
        return {**trainable(self), **measured}

    def semantics(self, examples: Sequence[Example]) -> Tensor:
        """Return E_sem of the references at the condition's width ``[B, width]``: what eq. 16 draws E_m to."""
        return self.backbone.embed_prompts([example.caption for example in examples]).float().mean(1)

    def _read(self, examples: Sequence[Example]) -> tuple[Preference, Tensor]:
        """Return what the extractor makes of examples, and P_ret as points ``[B, D]``."""
        words = [", ".join([example.text, *example.keywords]) for example in examples]
        prompts = [self.extractor.prompt(example.keywords, example.text) for example in examples]
        read = self.extractor(prompts, self.backbone.embed_prompts(words).float())
        return read, self._points([example.retrieved.preference for example in examples])

    def decodable(self, out: Output, actions: Tensor) -> Tensor:
        """Return what the UNet takes of actions ``[B, n, ...]``: raw image embeddings ``[B, n, D]``; tokens are already that."""
        if self.settings.action == "tokens":
            return actions
        return self.scale.invert(self.calibrator.corrected(actions, out.retrieved, out.liked))

    def _points(self, embeddings: Sequence[np.ndarray | None]) -> Tensor:
        """Raw embeddings as points ``[B, D]``; the catalogue's mean for a user of whom no image is known."""
        rows = torch.zeros(len(embeddings), len(self.scale.mean), device=self.scale.mean.device)
        for i, embedding in enumerate(embeddings):
            if embedding is not None:
                rows[i] = self.scale.apply(torch.from_numpy(embedding).to(rows.device))
        return rows
