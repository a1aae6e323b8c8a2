"""Data, clocks and result files of the ranking benchmarks."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


class Clock:
    """Wall and CPU seconds of a block. CPU seconds are the ones to compare on a machine that does other work too."""

    def __enter__(self) -> Clock:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu

    def per(self, count: int) -> dict[str, float]:
        """Seconds divided by `count`."""
        return {"wall": self.wall / count, "cpu": self.cpu / count}


def write_data(folder: Path, users: int, items: int, per_user: int, dim: int) -> dict:
    """Write random interactions and clustered features; return the config keys that read them."""
    rng = np.random.default_rng(0)
    (folder / "bench").mkdir()
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"all{item % 2}\ti{item}\t{item}" for item in range(items)]  # so that every item is known
    for user in range(users):
        lines += [
            f"u{user}\ti{item}\t{at}" for at, item in enumerate(rng.choice(items, per_user, replace=False))
        ]
    (folder / "bench" / "bench.inter").write_text("\n".join(lines))
    for modality in ("image", "text"):
        centres = rng.normal(size=(max(items // 30, 1), dim))
        rows = centres[rng.integers(0, len(centres), items)] + 0.7 * rng.normal(size=(items, dim))
        save_file({"features": torch.tensor(rows, dtype=torch.float32)}, folder / f"{modality}.safetensors")
        (folder / f"{modality}.ids.txt").write_text("\n".join(f"i{item}" for item in range(items)))
    return {
        "data_path": str(folder),
        "item_features": {m: str(folder / f"{m}.safetensors") for m in ("image", "text")},
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [0.98, 0.01, 0.01]}, "order": "RO", "group_by": None, "mode": "full"},
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
        "show_progress": False,
    }


def built(folder: Path, users: int, items: int, per_user: int, dim: int, **settings: object) -> tuple:
    """Return RecBole's config, a MICRO, and the training and validation loaders over random data."""
    import ranking_models

    ranking_models.register()
    sys.argv = sys.argv[:1]  # RecBole's Config reads the command line
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    keys = {**write_data(folder, users, items, per_user, dim), **settings}
    config = Config(model="MICRO", dataset="bench", config_dict=keys)
    init_seed(0, True)
    train, valid, _ = data_preparation(config, create_dataset(config))
    return config, config.model_class(config, train._dataset), train, valid


def environment() -> dict:
    """What the figures were measured on."""
    load = os.getloadavg()[0]
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load average": load,
        "machine": platform.machine(),
    }


def write_result(script: Path, result: dict) -> None:
    """Print the result and write it next to the script."""
    text = json.dumps(result, indent=1)
    script.with_suffix(".json").write_text(text + "\n")
    print(text)
