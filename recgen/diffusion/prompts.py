"""Prompts as the text condition of a diffusers pipeline: tokens, pooled embeddings, and what stands against them in guidance."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from recgen.diffusion.conditions import Condition
from recgen.diffusion.loading import Pipeline

_PROMPTS_KEPT = 1024  # 240 MB of prompt embeddings with Stable Diffusion 1.5


class PromptEncoder:
    """Encodes each distinct prompt alone, so that a prompt's condition depends on no other, and keeps the latest.

    Parameters
    ----------
    pipeline
        A pipeline as `recgen.diffusion.loading.load_pipeline` makes it.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._kept: OrderedDict[str, tuple[torch.Tensor, torch.Tensor | None]] = OrderedDict()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return tokens ``[B, T, width]`` and, for Stable Diffusion XL, pooled embeddings ``[B, P]``; else None."""
        found: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = {}
        for prompt in dict.fromkeys(prompts):
            if prompt not in self._kept:
                self._kept[prompt] = self.pipeline.encode(prompt)
            self._kept.move_to_end(prompt)
            found[prompt] = self._kept[prompt]
        while len(self._kept) > _PROMPTS_KEPT:
            self._kept.popitem(last=False)
        tokens, pooled = zip(*(found[prompt] for prompt in prompts), strict=True)
        return torch.cat(tokens), None if pooled[0] is None else torch.cat(pooled)

    def condition(self, rows: Sequence[Condition], guided: bool) -> dict[str, torch.Tensor]:
        """Return the pipeline's arguments that hold the text.

        Parameters
        ----------
        rows
            Conditions of one `recgen.diffusion.conditions.kind`.
        guided
            Whether there is classifier-free guidance, which needs the negative prompts too.

        Returns
        -------
        ``prompt_embeds`` ``[B, T, width]``, for Stable Diffusion XL ``pooled_prompt_embeds`` ``[B, P]`` and, if guided, both
        with ``negative_`` before their names.
        """
        tokens, pooled = self.encode([row.prompt for row in rows])
        if rows[0].prompt_embedding is not None:
            given = np.stack([row.prompt_embedding for row in rows if row.prompt_embedding is not None])
            tokens = torch.from_numpy(given).to(self.pipeline._execution_device, self.pipeline.unet.dtype)
        found = {"prompt_embeds": tokens}
        if pooled is not None:
            found["pooled_prompt_embeds"] = pooled
        if guided:
            found |= self._negative([row.negative_prompt for row in rows], tokens.shape[1])
        return found

    def _negative(self, prompts: Sequence[str], length: int) -> dict[str, torch.Tensor]:
        tokens, pooled = self.encode(prompts)
        if pooled is None:
            return {"negative_prompt_embeds": _as_long(tokens, length)}
        # as SDXL's base was trained: no negative is no embedding
        if self.pipeline.config.force_zeros_for_empty_prompt:
            given = torch.tensor([bool(prompt) for prompt in prompts], device=tokens.device)
            tokens, pooled = tokens * given[:, None, None], pooled * given[:, None]
        return {"negative_prompt_embeds": _as_long(tokens, length), "negative_pooled_prompt_embeds": pooled}


def _as_long(embeddings: torch.Tensor, length: int) -> torch.Tensor:
    """Repeat the last token, or cut, so that negative and positive condition have as many tokens, which the pipeline asks for."""
    missing = length - embeddings.shape[1]
    last = embeddings[:, -1:].expand(-1, max(missing, 0), -1)
    return torch.cat([embeddings[:, :length], last], dim=1)
