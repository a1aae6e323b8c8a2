"""Saved ranking models of any kind: ours, RecBole's own and plugins'; safetensors and JSON, never pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranking_models import checkpoint
from ranking_models.features import digest


def save(model: Any, dataset: Any, folder: Path) -> None:
    """Write a model's parameters to ``model.safetensors`` and what it was trained on to ``config.json``.

    Parameters
    ----------
    model
        The RecBole model.
    dataset
        The RecBole dataset whose ids it uses.
    folder
        Where to write; made if it is not there.
    """
    checkpoint.write_tensors(folder / "model.safetensors", model.state_dict())
    checkpoint.write_json(folder / "config.json", _about(model, dataset))


def load(model: Any, dataset: Any, folder: Path) -> Any:
    """Load saved parameters into a model that was built from the same data, and return it in evaluation mode.

    Raises
    ------
    UserError
        When a file is missing, or the folder holds another model, or one of other users, items, features or settings.
    """
    checkpoint.check(_about(model, dataset), folder)
    checkpoint.load_tensors(model, folder)
    return model.eval()


def _about(model: Any, dataset: Any) -> dict[str, Any]:
    """Return what a saved model must agree in with the model it is loaded into."""
    if hasattr(model, "identity"):
        return checkpoint.about(model)
    tokens = {"users": dataset.uid_field, "items": dataset.iid_field}
    found = {
        name: digest([str(token) for token in dataset.field2id_token[field]])
        for name, field in tokens.items()
    }
    return {"model": type(model).__name__, **found}
