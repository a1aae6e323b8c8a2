"""Saved models: safetensors and JSON, never pickle; the same bytes for the same state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensor_bytes

from recgen.core.errors import UserError
from recgen.core.io import write_bytes


def save(model: Any, folder: Path | str) -> None:
    """Write the model's parameters and settings to ``model.safetensors`` and ``config.json`` in `folder`."""
    folder = Path(folder)
    write_tensors(folder / "model.safetensors", model.state_dict())
    write_json(folder / "config.json", about(model))


def load(model: Any, folder: Path | str) -> None:
    """Load saved parameters into a model built from the same data and features.

    Raises
    ------
    UserError
        When a file is missing or the folder holds another model, or one of other users, items, features or settings.
    """
    check(about(model), Path(folder))
    load_tensors(model, Path(folder))


def about(model: Any) -> dict[str, Any]:
    """Return what a saved model must agree in with the one it is loaded into: its identity and its settings."""
    return {**model.identity, "settings": model.settings.model_dump()}


def check(expected: dict[str, Any], folder: Path) -> None:
    """Raise `UserError` unless `folder` holds a model whose ``config.json`` says what is expected."""
    for name in ("model.safetensors", "config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}", found="no such file", expected="a saved ranking model")
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in expected.items():
        if saved.get(key) != value:
            raise UserError(
                f"{folder / 'config.json'}",
                found=f"{key} {saved.get(key)}",
                expected=f"{value}, as in the model to load into",
                todo="Load it with the data, features and settings it was trained on.",
            )


def load_tensors(model: Any, folder: Path) -> None:
    """Load ``model.safetensors`` into a model without asking what it was trained on; `check` does."""
    model.load_state_dict(load_file(folder / "model.safetensors", device=str(model.device)))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to a safetensors file in one step: the file is there whole or not at all."""
    write_bytes(
        path, tensor_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    )


def write_json(path: Path, content: Any) -> None:
    """Write sorted, indented JSON in one step."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
