"""RAGAR: images from what a user liked that resembles the item, learned from a recommender (Ling et al., IJCAI 2025).

Read in the paper's order: `retrieval` (eqs. 1-5), `preference` (6-9), `calibrator` (10), `generation` (11-12), `reflection`
(13-17); `model` joins the parts and `train` runs them. docs/decisions.md says where this differs from the paper, and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from generators.base import Progress, silent
from generators.common.sampling import Drawing, DrawsConditions
from generators.common.training import (
    Learned,
    language_model_of,
    learned_users,
    load_learned,
    restore,
    save_learned,
)
from generators.ragar.calibrator import Scale
from generators.ragar.examples import ExampleBuilder, training_examples
from generators.ragar.generation import conditions
from generators.ragar.model import Model
from generators.ragar.settings import Settings
from generators.ragar.train import Trainer
from recgen.core.errors import UserError
from recgen.data.types import Request, RunData
from recgen.recommender.reward import RewardModel

_SCALE = ("mean", "deviation", "directions")
_BATCH = 64  # requests whose preferences are worked out together


class RAGAR(DrawsConditions):
    """RAGAR: draws what the user likes of similar items, trained by the ranking; `Settings` names estimator and ablations."""

    name = "ragar"
    Config = Settings
    config: Settings

    model: Model
    learned: Learned
    """No other user's score was ever seen."""
    _builder: ExampleBuilder | None = None

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Train on requests made of earlier likes, against `reward` unless beta or r is 0."""
        if reward is None and self.config.learns_from_reward:
            raise ValueError("RAGAR with beta > 0 and r > 0 needs a reward")
        found = training_examples(self._examples(data, reward))
        nobody = f"no user with more than {self.config.min_history} likes before the reference"
        self.learned = learned_users(found.train, found.held_out, "ragar", nobody)
        self.model = self._model(Scale.of(data.image_features, self.config.directions), data.run_seed)
        trainer = Trainer(self.model, self.encoder, reward, judge, self.config, data.run_seed)
        self.curves = trainer.train(found, progress)

    def _examples(self, data: RunData, reward: RewardModel | None) -> ExampleBuilder:
        """Return what makes examples, once for the same data, reward and settings: what it knows of the catalogue is kept."""
        made = self._builder
        kept = made is not None and made.data is data and made.reward is reward
        if made is None or not kept or made.settings is not self.config:
            made = self._builder = ExampleBuilder(data, self.config, reward)
        return made

    def _model(self, scale: Scale, run_seed: int) -> Model:
        language_model = language_model_of(self)
        width = self.backbone.image_embedding_dim
        if width != len(scale.mean):
            raise UserError(
                "recgen.ip_adapter",
                found=f"{width or 'none'}; the encoder's image embeddings have width {len(scale.mean)}",
                expected="an adapter for recgen.encoder and recgen.backbone",
            )
        return Model(language_model, self.backbone, scale, self.config, run_seed)

    @torch.no_grad()
    def drawings(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterable[Drawing]:
        """Return what each request's image is drawn from: the preference that the trained model decodes."""
        builder = self._examples(data, reward)
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            histories = [[data.item_rows[token] for token in r.history] for r in batch]
            triples = [(r.user_id, r.item_id, own) for r, own in zip(batch, histories, strict=True)]
            examples = builder.build(triples)
            out = self.model(examples)
            actions = self.model.decodable(out, out.action[:, None])[:, 0]
            drawn = conditions(
                actions, [example.text for example in examples], [r.seed for r in batch], self.config
            )
            for example, condition in zip(examples, drawn, strict=True):
                yield (
                    condition,
                    {
                        "prompt": example.text,
                        "keywords": list(example.keywords),
                        "retrieved": [data.item_ids[row] for row in example.retrieved.rows],
                        "weights": [round(float(weight), 4) for weight in example.retrieved.weights],
                        "known_user": example.user in self.learned["train"],
                    },
                )

    def save(self, folder: Path) -> None:
        """Write what trained (the frozen language model is named, not copied), the embeddings' scale and who was learned from."""
        scale = {f"scale.{part}": getattr(self.model.scale, part) for part in _SCALE}
        save_learned(self, folder, self.model.state(), self.learned, scale)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no RAGAR, or one of other sizes than these settings'.
        """
        state, self.learned = load_learned(folder, "RAGAR")
        self.model = self._model(Scale(*(state.pop(f"scale.{part}") for part in _SCALE)), 0)
        restore(self.model.state(), state, folder)
        self.model.eval()
