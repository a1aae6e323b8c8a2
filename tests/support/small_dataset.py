"""A small data set with item features, written as RecBole atomic files, and models built on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from safetensors.torch import save_file

import ranking_models


def write_features(path: Path, tokens: list[str], rows: np.ndarray) -> None:
    save_file({"features": torch.tensor(rows, dtype=torch.float32)}, path)
    path.with_suffix(".ids.txt").write_text("\n".join(tokens))


def write_dataset(folder: Path, users: int, items: int, per_user: int, dim: int = 12, seed: int = 0) -> dict:
    """Write `<folder>/tiny/tiny.inter` and features; return the config keys that read them.

    Users like the items of their own cluster of images, so that there is something to learn.
    """
    rng = np.random.default_rng(seed)
    (folder / "tiny").mkdir(parents=True, exist_ok=True)
    cluster = rng.integers(0, 6, items)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(users):
        weight = np.where(cluster == user % 6, 8.0, 1.0)
        for time, item in enumerate(rng.choice(items, per_user, replace=False, p=weight / weight.sum())):
            rating = int(rng.integers(3, 6)) if cluster[item] == user % 6 else int(rng.integers(1, 5))
            lines.append(f"u{user}\ti{item}\t{rating}\t{time}")
    (folder / "tiny" / "tiny.inter").write_text("\n".join(lines))
    tokens = [f"i{item}" for item in range(items)]
    centres = rng.normal(size=(6, dim))
    for modality in ("image", "text"):
        rows = centres[cluster] + 0.7 * rng.normal(size=(items, dim))
        write_features(folder / f"{modality}.safetensors", tokens, rows)
    return {
        "data_path": str(folder),
        "item_features": {m: str(folder / f"{m}.safetensors") for m in ("image", "text")},
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        "show_progress": False,
        "use_gpu": False,
    }


class Built:
    """A model with its config, loaders and trainer."""

    def __init__(self, model: str, settings: dict) -> None:
        ranking_models.register()
        self.config = Config(model=model, dataset="tiny", config_dict=settings)
        init_seed(self.config["seed"], True)
        self.dataset = create_dataset(self.config)
        self.train, self.valid, self.test = data_preparation(self.config, self.dataset)
        self.model = self.config.model_class(self.config, self.train._dataset)

    def trainer(self):
        from recbole.utils import get_trainer

        return get_trainer(self.config["MODEL_TYPE"], self.config["model"])(self.config, self.model)
