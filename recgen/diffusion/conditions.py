"""What an image is made from, and what is no image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class BrokenImageError(RuntimeError):
    """An image that is no image: pixels that are not finite, or all the same.

    Attributes
    ----------
    seed
        The seed of the condition it was made from, by which whoever asked for it finds the request.
    problem
        What is wrong with it.
    """

    def __init__(self, seed: int, problem: str) -> None:
        super().__init__(f"{problem}, drawn from seed {seed}")
        self.seed, self.problem = seed, problem


@dataclass(frozen=True, eq=False)
class Condition:
    """What one image is made from.

    Attributes
    ----------
    seed
        Seed of the image's own noise.
    prompt, negative_prompt
        Text conditions; empty for none.
    image_embedding
        Raw CLIP image embedding, float32 ``[D]``, that goes through IP-Adapter; None for none.
    prompt_embedding
        Text condition float32 ``[T, width]`` that stands in for the prompt's own; all those of one call have one T. The pooled
        embedding that Stable Diffusion XL reads too is still that of `prompt`.
    interest_tokens
        Further tokens float32 ``[S, width]`` for attention processors that ask for `interest` (I-AM-G eq. 13); without guidance's
        condition they are zeros. None for none; all those of one call have one S.
    """

    seed: int
    prompt: str = ""
    negative_prompt: str = ""
    image_embedding: np.ndarray | None = None
    prompt_embedding: np.ndarray | None = None
    interest_tokens: np.ndarray | None = None


def kind(condition: Condition) -> tuple[bool, bool, bool]:
    """What has to be the same for all rows of a batch."""
    given = (condition.image_embedding, condition.prompt_embedding, condition.interest_tokens)
    return given[0] is not None, given[1] is not None, given[2] is not None
