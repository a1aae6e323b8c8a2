"""Saved models: safetensors and JSON, never pickle; the same bytes for the same state."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensor_bytes

from recgen.core.errors import UserError


def save(model: Any, folder: Path | str) -> None:
    """Write the model's parameters and settings to ``model.safetensors`` and ``config.json`` in `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", model.state_dict())
    write_json(folder / "config.json", {**model.identity, "settings": model.settings.model_dump()})


def load(model: Any, folder: Path | str) -> None:
    """Put saved parameters into a model built from the same data and features.

    Raises
    ------
    UserError
        When a file is missing or the folder holds another model, or one of other users, items or features.
    """
    folder = Path(folder)
    for name in ("model.safetensors", "config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}", found="no such file", expected="a saved ranking model")
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in {**model.identity, "settings": model.settings.model_dump()}.items():
        if saved.get(key) != value:
            raise UserError(
                f"{folder / 'config.json'}",
                found=f"{key} {saved.get(key)}",
                expected=f"{value}, as in the model to load into",
                todo="Load it with the data, features and settings it was trained on.",
            )
    model.load_state_dict(load_file(folder / "model.safetensors", device=str(model.device)))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to a safetensors file in one step: the file is there whole or not at all."""
    _write(path, tensor_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_json(path: Path, content: Any) -> None:
    """Write sorted, indented JSON in one step."""
    _write(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
