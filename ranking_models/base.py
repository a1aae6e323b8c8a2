"""What our ranking models share: settings with their defaults, aligned item features, training histories."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from recbole.model.abstract_recommender import GeneralRecommender

from ranking_models.features import digest, load_image_redraws, load_item_features
from recgen.core.errors import UserError


class Settings(BaseModel):
    """Base of a model's typed settings; each field is a key of the RecBole config."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def defaults_path(model_name: str) -> Path:
    """Return the YAML that states a model's defaults."""
    return Path(str(files("recbole_configs") / f"{model_name}.yaml"))


@cache
def _defaults(model_name: str) -> dict[str, Any]:
    return yaml.safe_load(defaults_path(model_name).read_text(encoding="utf-8"))


def read_settings(kind: type[Settings], model_name: str, config: Any) -> Any:
    """Return the model's settings from a RecBole config; a key that is not set has the default of the model's YAML."""
    values = {}
    for name, field in kind.model_fields.items():
        value = _defaults(model_name)[name] if config[name] is None else config[name]
        values[name] = float(value) if field.annotation is float and type(value) is int else value
    try:
        return kind(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(
            f"key {problem['loc'][0]!r} of model {model_name}",
            found=repr(problem["input"]),
            expected=problem["msg"],
        ) from None


class FeatureRecommender(GeneralRecommender):  # type: ignore[misc]  # untyped
    """A RecBole general recommender over frozen item features.

    Buffers ``features_<modality>`` ``[n_items, D]`` are not part of the state dict: a saved model names what it was trained
    on in `identity` instead, and refuses to be loaded onto anything else.
    """

    Settings: ClassVar[type[Settings]]
    defaults: ClassVar[Path]

    shows_redraws: ClassVar[bool] = False
    """Whether the model learns from `shown_images`, so that redraws can take an image's place in training."""

    scores_by_images: ClassVar[bool] = True
    """Whether a trained model's scores follow from the items' images; False where images act in training alone."""

    reads_columns: ClassVar[bool] = False
    """Whether batches of training need the columns of the `.user` and `.item` files, such as titles, beside ids and labels."""

    history_starts: torch.Tensor
    history_items: torch.Tensor
    image_redraws: torch.Tensor | None

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        name = type(self).__name__
        self.settings = read_settings(self.Settings, name, config)
        features = load_item_features(config, dataset)
        self.modalities = list(features)
        for modality, table in features.items():
            self.register_buffer(f"features_{modality}", table, persistent=False)
        redraws = load_image_redraws(config, dataset, features["image"]) if self.shows_redraws else None
        self.register_buffer("image_redraws", redraws, persistent=False)
        history = History(dataset)
        self.register_buffer("history_starts", history.starts, persistent=False)
        self.register_buffer("history_items", history.items, persistent=False)
        tokens = dataset.field2id_token
        self.identity = {
            "model": name,
            "users": digest([str(token) for token in tokens[dataset.uid_field]]),
            "items": digest([str(token) for token in tokens[dataset.iid_field]]),
            "features": {modality: digest(table) for modality, table in features.items()},
            "interactions": digest(self.history_items),
        }
        if redraws is not None:
            self.identity["redraws"] = digest(redraws)

    def features(self, modality: str) -> torch.Tensor:
        """Return the raw features of a modality, float32 ``[n_items, D]``; row 0 is padding."""
        if modality not in self.modalities:
            raise UserError(
                f"features of modality {modality!r}",
                found=f"only {self.modalities}",
                expected=f"item_features: {modality}",
            )
        return getattr(self, f"features_{modality}")

    def shown_images(self, items: torch.Tensor) -> torch.Tensor:
        """Return a raw image embedding ``[B, D]`` of each of the items ``[B]``: its own image's.

        In training it is by chance, each as likely as the next, that or one of the item's further drawings, where there are any.
        """
        own = self.features("image")[items]
        if not self.training or self.image_redraws is None:
            return own
        drawings = self.image_redraws.shape[1]
        choice = torch.randint(drawings + 1, items.shape, device=items.device)
        drawn = self.image_redraws[items, choice.clamp(max=drawings - 1)]
        return torch.where((choice == drawings)[:, None], own, drawn)

    def history(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (position in `users`, item) of every training interaction of the users ``[B]``, as two ``[P]`` tensors."""
        return interactions_of(users, self.history_starts, self.history_items)

    def features_changed(self) -> None:
        """Compute anew what was computed from the features: a row of a table that `features` returned has been replaced.

        Override it in a model that keeps more than `_reset` forgets.
        """
        self._reset()

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for the batches of a training epoch, counted from 0; `RankingTrainer` calls it."""

    def end_epoch(self) -> None:
        """Prepare for what is not training; `RankingTrainer` calls it after an epoch's last batch."""

    def _reset(self) -> None:
        """Forget what was computed from parameters that have changed."""

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._apply(fn, *args, **kwargs)
        self._reset()
        return result

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load parameters and forget what was computed from the old ones."""
        result = super().load_state_dict(*args, **kwargs)
        self._reset()
        return result


class DotProductRecommender(FeatureRecommender):
    """A ranking model whose score is the dot product of a user's and an item's final vector."""

    def final(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the final vectors of users ``[n_users, d]`` and of items ``[n_items, d]``, without gradient."""
        raise NotImplementedError

    def predict(self, interaction: Any) -> torch.Tensor:
        """Scores ``[B]`` of the pairs in `interaction`."""
        users, items = self.final()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(1)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Scores of the users in `interaction` for every item, flat ``[B * n_items]``."""
        users, items = self.final()
        return (users[interaction[self.USER_ID]] @ items.T).reshape(-1)


class History:
    """The training items of every user.

    Parameters
    ----------
    dataset
        The RecBole dataset of the training interactions.
    device
        Where to keep them.

    Attributes
    ----------
    starts
        int64 ``[n_users + 1]``; user u's items are ``items[starts[u] : starts[u + 1]]``.
    items
        int64, RecBole's ids.
    """

    def __init__(self, dataset: Any, device: Any = "cpu") -> None:
        matrix = dataset.inter_matrix(form="csr")
        matrix.sum_duplicates()
        self.starts = torch.from_numpy(matrix.indptr).long().to(device)
        self.items = torch.from_numpy(matrix.indices).long().to(device)

    def of(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (position in `users`, item) of every training interaction of the users ``[B]``, as two ``[P]`` tensors."""
        return interactions_of(users, self.starts, self.items)


def interactions_of(
    users: torch.Tensor, starts: torch.Tensor, items: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (position in `users`, item) of the users' rows of a `History`, as two ``[P]`` tensors."""
    first, after = starts[users], starts[users + 1]
    return ragged(first, after - first, items)


def ragged(
    starts: torch.Tensor, lengths: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (segment number, value) of ``values[start : start + length]`` for each segment, flat ``[sum of lengths]``."""
    segments = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), lengths)
    offsets = torch.arange(len(segments), device=starts.device) - (lengths.cumsum(0) - lengths)[segments]
    return segments, values[starts[segments] + offsets]
