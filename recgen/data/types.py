"""What the stages hand to generators and get back: requests, creatives and the data of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image


@dataclass(frozen=True)
class Request:
    """One image to make: of item `item_id`, for user `user_id`.

    `seed` comes from (run seed, "request", user, item); `history` are the items the user liked before the reference,
    oldest first, at most 20.
    """

    user_id: str
    item_id: str
    seed: int
    history: tuple[str, ...] = ()


@dataclass
class Creative:
    """A finished image (RGB) and the recipe that makes it again."""

    request: Request
    generator: str
    image: Image.Image
    recipe: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class RunData:
    """What a generator may learn from. It never contains a simulator's truth or a reference interaction.

    Attributes
    ----------
    user_ids, item_ids
        Tokens; their positions are the row numbers used everywhere else here.
    texts
        One text per item.
    images
        One path per item, or None where the item has no usable image.
    image_features
        float32 ``[n_items, D]``, raw (un-normalised) CLIP image embeddings; rows of items without an image are NaN.
    text_features
        float32 ``[n_items, D]``, raw CLIP text embeddings of `texts`.
    interactions
        Columns ``user`` and ``item`` (row numbers), ``like`` (bool), ``timestamp`` (float or NaN), ``split``; training,
        validation and earlier disliked interactions only.
    run_seed
        The run's seed.
    captions
        One sentence per item about its image, "" for an item without one; empty where no generator asked for captions.
    caption_features
        float32 ``[n_items, D]``, raw CLIP text embeddings of `captions` (RAGAR eq. 2), NaN rows for items without an image;
        None where no generator asked for captions.
    keywords
        One tuple of keywords per item (RAGAR eq. 6); empty where no generator asked for them.
    tags
        One tuple of tags per item, of its image and its text (I-AM-G eq. 4); empty where no generator asked for them.
    foreground_features
        float32 ``[n_items, D]``, raw CLIP embeddings of the images' foregrounds (I-AM-G eq. 12), NaN rows for items without a
        image; None where no generator asked for them.
    """

    user_ids: list[str]
    item_ids: list[str]
    texts: list[str]
    images: list[Path | None]
    image_features: np.ndarray
    text_features: np.ndarray
    interactions: pd.DataFrame
    run_seed: int
    captions: list[str] = field(default_factory=list)
    caption_features: np.ndarray | None = None
    keywords: list[tuple[str, ...]] = field(default_factory=list)
    tags: list[tuple[str, ...]] = field(default_factory=list)
    foreground_features: np.ndarray | None = None

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """Row number of each user token."""
        return {token: row for row, token in enumerate(self.user_ids)}

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Row number of each item token."""
        return {token: row for row, token in enumerate(self.item_ids)}
