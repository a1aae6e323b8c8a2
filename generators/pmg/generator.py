"""PMG: a user's keywords and soft embeddings of them, weighed against the item (Shen et al., WWW 2024).

A language model reads the keywords of what the user liked; its states at added tokens become soft preference embeddings, trained
so that they, the keywords and an item's text help the frozen UNet to denoise the item's image, which the user liked next. How
much the preference counts against the text is chosen for every request out of a few weights, by CLIP.

docs/decisions.md says what the paper leaves open and how it is settled here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from generators.base import Progress, silent
from generators.common.sampling import Drawn, DrawsImages
from generators.common.training import (
    Learned,
    language_model_of,
    learned_users,
    load_learned,
    restore,
    save_learned,
    trainable,
)
from generators.pmg.choice import best, likeness, mean_direction, scores
from generators.pmg.model import PreferenceEncoder
from generators.pmg.settings import Settings
from generators.pmg.train import Trainer, keywords_of, training_examples
from recgen.data.types import Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.recommender.reward import RewardModel

_BATCH = 32  # requests whose images are drawn and compared together


class PMG(DrawsImages):
    """PMG: draws keywords and soft preference embeddings, by RAGAR's extractor without its retrieval, calibrator and reward."""

    name = "pmg"
    Config = Settings
    config: Settings

    preference_encoder: PreferenceEncoder
    learned: Learned

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Train on earlier likes as references; neither `reward` nor `judge` is used."""
        train, held_out = training_examples(data, self.config)
        self.learned = learned_users(
            train, held_out, "pmg", f"no user with a liked image after {self.config.min_history} likes"
        )
        self.preference_encoder = self._new_encoder(data.run_seed)
        self.curves = Trainer(self.preference_encoder, data, self.config).train(train, held_out, progress)

    def _new_encoder(self, run_seed: int) -> PreferenceEncoder:
        return PreferenceEncoder(language_model_of(self), self.backbone, self.config, run_seed)

    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawn]:
        """Yield each request's image, block by block."""
        for start in range(0, len(requests), _BATCH):
            yield from self._block(requests[start : start + _BATCH], data)

    def _block(self, requests: Sequence[Request], data: RunData) -> Iterator[Drawn]:
        """Draw some requests under every weight and return each one's best image with its recipe."""
        weights, histories = self.config.weights, [_rows(data, request) for request in requests]
        keywords = [keywords_of(data, history, self.config) for history in histories]
        texts = [data.texts[data.item_rows[request.item_id]] for request in requests]
        images = self._images(requests, keywords, texts)  # weight by weight
        embeddings = self.encoder.images(images).reshape(len(weights), len(requests), -1)
        targets = self.encoder.texts(texts)
        targets[[not text for text in texts]] = np.nan
        preferences = self._preferences(histories, keywords, data)
        for row, request in enumerate(requests):
            to_preference, to_target = (
                likeness(embeddings[:, row], preferences[row]),
                likeness(embeddings[:, row], targets[row]),
            )
            chosen = best(scores(to_preference, to_target, self.config.alpha))
            yield (
                images[chosen * len(requests) + row],
                {
                    "prompt": texts[row],
                    "keywords": list(keywords[row]),
                    "weight": weights[chosen],
                    "likeness": {
                        "preference": _rounded(to_preference[chosen]),
                        "target": _rounded(to_target[chosen]),
                    },
                    "known_user": request.user_id in self.learned["train"],
                },
            )

    @torch.no_grad()
    def _images(
        self, requests: Sequence[Request], keywords: Sequence[Sequence[str]], texts: Sequence[str]
    ) -> list[Image.Image]:
        read = [
            self.preference_encoder(keywords, texts, [weight] * len(texts)).cpu().numpy()
            for weight in self.config.weights
        ]
        conditions = [
            Condition(request.seed, prompt_embedding=tokens)
            for every in read
            for request, tokens in zip(requests, every, strict=True)
        ]
        return list(self.backbone.generate(conditions, self.config.decode))

    def _preferences(
        self, histories: Sequence[list[int]], keywords: Sequence[Sequence[str]], data: RunData
    ) -> np.ndarray:
        """Return what each user's images should be like, ``[n, D]`` in CLIP's space; NaN where nothing is known."""
        if self.config.preference == "keywords":
            found = self.encoder.texts([", ".join(words) for words in keywords])
            found[[not words for words in keywords]] = np.nan
            return found
        seen = [[row for row in history if data.images[row] is not None] for history in histories]
        return np.stack([mean_direction(data.image_features[rows]) for rows in seen])

    def save(self, folder: Path) -> None:
        """Write what trained (the frozen language model is named, not copied) and the users learned from."""
        save_learned(self, folder, trainable(self.preference_encoder), self.learned)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no PMG, or one of other sizes than these settings'.
        """
        state, self.learned = load_learned(folder, "PMG")
        self.preference_encoder = self._new_encoder(0)
        restore(trainable(self.preference_encoder), state, folder)


def _rows(data: RunData, request: Request) -> list[int]:
    return [data.item_rows[token] for token in request.history]


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
