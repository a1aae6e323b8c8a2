"""I-AM-G: Interest Augmented Multimodal Generator (Wang et al., Findings of EMNLP 2024).

The tags that a user's history has in common rewrite an item's text (`rewrite`); texts near the rewritten one and images near
the item's own are fused to an interest embedding (`ira`); and the UNet attends to the item's foreground, the rewritten text and
the interest by decoupled cross-attentions (`decoupled`), of which the image's train with the interest's (`train`).

docs/decisions.md says what the paper leaves open and how it is settled here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from generators.base import Progress, silent
from generators.common.sampling import Drawn, DrawsImages
from generators.common.training import Learned, learned_users, load_learned, restore, write_learned
from generators.iamg.conditions import ContextBuilder, ItemContext
from generators.iamg.decoupled import Adapter, Strengths
from generators.iamg.ira import InterestRetrieveAttention
from generators.iamg.settings import Settings
from generators.iamg.train import Trainer, parameters, training_examples
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel


class IAMG(DrawsImages):
    """I-AM-G: draws the item's text, rewritten by the user's interests, and its foreground; `Settings` names the ablations."""

    name = "iamg"
    Config = Settings
    config: Settings

    adapter: Adapter
    ira: InterestRetrieveAttention | None
    learned: Learned
    _builder: ContextBuilder | None = None

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Train on earlier likes as references (eq. 14); neither `reward` nor `judge` is used."""
        self._prepare()
        train, held_out = training_examples(data, self.config)
        self.learned = learned_users(
            train, held_out, "iamg", f"no user with a liked image after {self.config.min_history} likes"
        )
        self.curves = Trainer(self.adapter, self.ira, self._builder_for(data), self.config).train(
            train, held_out, progress
        )

    def _prepare(self) -> None:
        """Begin with the IP-Adapter's own attention, and with an IRA that has learned nothing."""
        self.adapter = Adapter(self.backbone)
        self.ira = None
        if self.config.ira:
            self.ira = InterestRetrieveAttention(self.backbone.condition_width, self.config.heads)
            self.ira.to(self.backbone.device)

    def _builder_for(self, data: RunData) -> ContextBuilder:
        if self._builder is None or self._builder.data is not data:
            self._builder = ContextBuilder(self.backbone, self.encoder, data, self.config)
        return self._builder

    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawn]:
        """Yield each request's image, block by block."""
        size = self.config.decode.batch_size
        for start in range(0, len(requests), size):
            block = requests[start : start + size]
            pairs = [
                (data.item_rows[r.item_id], [data.item_rows[token] for token in r.history]) for r in block
            ]
            contexts = self._builder_for(data).build(pairs)
            yield from zip(
                self._images(block, contexts, data),
                (self._recipe(context, data) for context in contexts),
                strict=True,
            )

    @torch.no_grad()
    def _images(
        self, requests: Sequence[Request], contexts: Sequence[ItemContext], data: RunData
    ) -> list[Image.Image]:
        """Draw requests by eq. 13; guidance (eq. 15) is against no text, no image and no interest."""
        config, builder = self.config, self._builder_for(data)
        images = builder.foregrounds(contexts)
        interests = [None] * len(contexts)
        if self.ira is not None and config.lambda2:
            interests = list(builder.interest(contexts, self.ira).cpu().numpy())
        conditions = [
            Condition(request.seed, context.rewritten.text, "", image, interest_tokens=interest)
            for request, context, image, interest in zip(requests, contexts, images, interests, strict=True)
        ]
        strengths = Strengths(config.decode.ip_adapter_scale, config.lambda1, config.lambda2)
        with self.adapter.worn_by(self.backbone, strengths):
            return list(self.backbone.generate(conditions, config.decode))

    def _recipe(self, context: ItemContext, data: RunData) -> dict[str, Any]:
        rewritten = context.rewritten
        return {
            "prompt": rewritten.text,
            "tags": list(rewritten.tags),
            "interest": list(rewritten.interest),
            "words_cut": rewritten.cut,
            "tags_left_out": list(rewritten.left_out),
            "texts": [data.item_ids[row] for row in context.texts],
            "images": [data.item_ids[row] for row in context.images],
            "lambda1": self.config.lambda1,
            "lambda2": self.config.lambda2 if self.ira is not None else 0.0,
        }

    def save(self, folder: Path) -> None:
        """Write the trained projections and the users learned from; the backbone is named by the run, not copied."""
        write_learned(folder, parameters(self.adapter, self.ira), self.learned)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no I-AM-G, or one of other sizes than these settings'.
        """
        state, self.learned = load_learned(folder, "I-AM-G")
        self._prepare()
        restore(parameters(self.adapter, self.ira), state, folder)
