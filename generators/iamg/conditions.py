"""What an image is conditioned on (eq. 12): the rewritten text, the foreground, and the interest that IRA makes of the pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generators.iamg.ira import InterestRetrieveAttention
from generators.iamg.rewrite import Rewritten, interest_tags, rewrite, without_content
from generators.iamg.settings import Settings
from recgen.data.types import RunData
from recgen.diffusion.backbone import Backbone
from recgen.features.encoders import Encoder
from recgen.features.retrieval import ItemPool


@dataclass(frozen=True)
class ItemContext:
    """What one item is conditioned on for one user, before any attention.

    Attributes
    ----------
    item
        Its catalogue row.
    rewritten
        T*.
    texts, images
        Catalogue rows of Phi and Psi, the most similar first; no images where the item has no image to search by.
    """

    item: int
    rewritten: Rewritten
    texts: tuple[int, ...] = ()
    images: tuple[int, ...] = ()


class ContextBuilder:
    """Builds the conditions of items for users of one catalogue.

    The pools hold every item with a text or an image, the one that is drawn among them: the paper leaves it in.

    Parameters
    ----------
    backbone, encoder
        The run's. The encoder's space is the one searched; the backbone's text encoder makes the tokens that attend.
    data
        The catalogue with its tags and foregrounds.
    settings
        I-AM-G's.
    """

    def __init__(self, backbone: Backbone, encoder: Encoder, data: RunData, settings: Settings) -> None:
        self.backbone, self.encoder, self.data, self.settings = backbone, encoder, data, settings
        if settings.ira:
            self.text_pool, self.image_pool = ItemPool(data.text_features), ItemPool(data.image_features)
        self._ends: dict[int, Tensor] = {}
        self._alike: dict[int, tuple[int, ...]] = {}

    def build(self, pairs: Sequence[tuple[int, Sequence[int]]]) -> list[ItemContext]:
        """Return the contexts of pairs (item, history): catalogue rows, a history's oldest first."""
        texts = [self.rewrite(item, history) for item, history in pairs]
        if not self.settings.ira:
            return [ItemContext(item, text) for (item, _), text in zip(pairs, texts, strict=True)]
        queries = self.encoder.texts([text.text for text in texts])
        return [
            ItemContext(
                item,
                text,
                tuple(self.text_pool.nearest(query, self.settings.neighbours).tolist()),
                self._like(item),
            )
            for (item, _), text, query in zip(pairs, texts, queries, strict=True)
        ]

    def rewrite(self, item: int, history: Sequence[int]) -> Rewritten:
        """Return T* of an item for a history (section 4.1), or its own text where `rewrite` is off."""
        data, s = self.data, self.settings
        if not s.rewrite:
            return Rewritten(data.texts[item])
        latest = list(history)[max(len(history) - s.history, 0) :]
        tagged: list[Sequence[str]] = [data.tags[row] for row in latest]
        if not s.content_tags:
            tagged = [
                without_content(tags, data.texts[row]) for tags, row in zip(tagged, latest, strict=True)
            ]
        interest = interest_tags(tagged, data.tags[item], s.tags)
        return rewrite(data.texts[item], data.tags[item], interest, s.template, s.domain, self._fits)

    def _fits(self, text: str) -> bool:
        return self.backbone.count_tokens(text) <= self.backbone.prompt_limit

    def _like(self, item: int) -> tuple[int, ...]:
        """Return Psi's rows: the images most similar to the item's own (eq. 9)."""
        if item not in self._alike:
            own = self.data.image_features[item]
            seen = bool(np.isfinite(own).all())
            self._alike[item] = (
                tuple(self.image_pool.nearest(own, self.settings.neighbours).tolist()) if seen else ()
            )
        return self._alike[item]

    def foregrounds(self, contexts: Sequence[ItemContext]) -> np.ndarray:
        """Return F_img(I*), float32 ``[B, D]``; zeros, what IP-Adapter knows as no image, for items without an image."""
        features = self.data.foreground_features if self.settings.foreground else self.data.image_features
        assert features is not None
        return np.nan_to_num(features[[context.item for context in contexts]], nan=0.0)

    def interest(self, contexts: Sequence[ItemContext], ira: InterestRetrieveAttention) -> Tensor:
        """Return z~ ``[B, T, width]``; zeros for items without an image."""
        device = self.backbone.device
        rewritten = self.backbone.embed_prompts([context.rewritten.text for context in contexts]).float()
        found = torch.zeros_like(rewritten)
        seen = [n for n, context in enumerate(contexts) if context.images and context.texts]
        if seen:
            texts = torch.stack([torch.stack([self._end(row) for row in contexts[n].texts]) for n in seen])
            images = np.stack([self.data.image_features[list(contexts[n].images)] for n in seen])
            tokens = self.backbone.image_tokens(torch.from_numpy(images).flatten(0, 1)).float()
            tokens = tokens.unflatten(0, images.shape[:2]).flatten(1, 2)
            found = found.index_put(
                (torch.tensor(seen, device=device),), ira(rewritten[seen], texts.to(device), tokens)
            )
        return found

    def _end(self, row: int) -> Tensor:
        """Return an item's text as the backbone's text encoder sums it up (eq. 6), ``[width]``."""
        if row not in self._ends:
            self._ends[row] = self.backbone.end_states([self.data.texts[row]])[0].float()
        return self._ends[row]
