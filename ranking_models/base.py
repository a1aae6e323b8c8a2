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

from ranking_models.features import digest, load_item_features
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


class FeatureRecommender(GeneralRecommender):
    """A RecBole general recommender over frozen item features.

    Buffers ``features_<modality>`` ``[n_items, D]`` are not part of the state dict: a saved model names what it was trained
    on in `identity` instead, and refuses to be loaded onto anything else.
    """

    Settings: ClassVar[type[Settings]]
    defaults: ClassVar[Path]

    history_starts: torch.Tensor
    history_items: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        name = type(self).__name__
        self.settings = read_settings(self.Settings, name, config)
        features = load_item_features(config, dataset)
        self.modalities = list(features)
        for modality, table in features.items():
            self.register_buffer(f"features_{modality}", table, persistent=False)
        self._keep_history(dataset)
        tokens = dataset.field2id_token
        self.identity = {
            "model": name,
            "users": digest([str(token) for token in tokens[dataset.uid_field]]),
            "items": digest([str(token) for token in tokens[dataset.iid_field]]),
            "features": {modality: digest(table) for modality, table in features.items()},
            "interactions": digest(self.history_items),
        }

    def features(self, modality: str) -> torch.Tensor:
        """Return the raw features of a modality, float32 ``[n_items, D]``; row 0 is padding."""
        if modality not in self.modalities:
            raise UserError(
                f"features of modality {modality!r}",
                found=f"only {self.modalities}",
                expected=f"item_features: {modality}",
            )
        return getattr(self, f"features_{modality}")

    def _keep_history(self, dataset: Any) -> None:
        matrix = dataset.inter_matrix(form="csr")
        matrix.sum_duplicates()
        self.register_buffer("history_starts", torch.from_numpy(matrix.indptr).long(), persistent=False)
        self.register_buffer("history_items", torch.from_numpy(matrix.indices).long(), persistent=False)

    def history(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (position in `users`, item) of every training interaction of the users ``[B]``, as two ``[P]`` tensors."""
        starts, stops = self.history_starts[users], self.history_starts[users + 1]
        return ragged(starts, stops - starts, self.history_items)

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


def ragged(
    starts: torch.Tensor, lengths: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (segment number, value) of ``values[start : start + length]`` for each segment, flat ``[sum of lengths]``."""
    segments = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), lengths)
    offsets = torch.arange(len(segments), device=starts.device) - (lengths.cumsum(0) - lengths)[segments]
    return segments, values[starts[segments] + offsets]
