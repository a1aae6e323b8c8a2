"""Make a data set of any size: Zipf-like popularity, ratings from hidden tastes, features as arrays; written in pieces.

    python -m experiments.scaling.data --out runs/scaling/1m --users 1000000 --items 100000 --per-user 20

writes RecBole's atomic files, one image that all items show, embeddings of images and texts with their ids (``.npy`` and
``.ids.txt``, as `recgen export` writes them), and ``shop.yaml``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import yaml
from PIL import Image

WIDTH = 64
"""The demo encoder's."""
PIECE = 200_000
"""Users written at once."""


def interactions(path: Path, users: int, items: int, per_user: int, taste: np.ndarray) -> int:
    """Write ``<name>.inter`` piece by piece; return how many interactions there are."""
    weights = 1 / np.arange(1, items + 1) ** 0.8
    bounds, written = np.cumsum(weights) / weights.sum(), 0
    with path.open("wb") as file:
        file.write(b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
        for start in range(0, users, PIECE):
            rng = np.random.default_rng([1, start])
            count = min(PIECE, users - start)
            user = np.repeat(np.arange(count), per_user)
            item = np.minimum(np.searchsorted(bounds, rng.random(len(user))), items - 1)
            pairs = np.unique(user * items + item)  # nobody meets an item twice
            user, item = pairs // items, pairs % items
            likes = (rng.standard_normal((count, taste.shape[1]), dtype=np.float32)[user] * taste[item]).sum(
                1
            )
            rating = np.clip(np.round(3 + likes / 4 + rng.normal(0, 0.7, len(user))), 1, 5)
            time = rng.integers(10**9, 2 * 10**9, len(user))
            table = pa.table(
                {"u": user + start, "i": item, "r": rating.astype(np.float64), "t": time.astype(np.float64)}
            )
            options = pc.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
            pc.write_csv(table, file, options)
            written += len(user)
    return written


def features(folder: Path, items: int) -> np.ndarray:
    """Write image and text embeddings in clusters, and their ids; return what tastes are about, float32 ``[items, 8]``."""
    rng = np.random.default_rng(2)
    taste = rng.standard_normal((items, 8), dtype=np.float32)
    spread = rng.standard_normal((8, WIDTH), dtype=np.float32)
    for kind, share in (("image", 1.0), ("text", 0.3)):
        centres = rng.standard_normal((300, WIDTH), dtype=np.float32)
        rows = centres[rng.integers(300, size=items)] + share * taste @ spread
        rows += 0.5 * rng.standard_normal(rows.shape, dtype=np.float32)
        np.save(folder / f"{kind}.npy", rows, allow_pickle=False)
        (folder / f"{kind}.ids.txt").write_text("".join(f"{item}\n" for item in range(items)))
    return taste


def make(out: Path, users: int, items: int, per_user: int, same_judge: bool = False) -> None:
    """Write everything; with `same_judge` one ranking model is reward and judge."""
    folder = out / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    taste = features(out, items)
    Image.effect_noise((32, 32), 50).convert("RGB").save(folder / "item.png")
    with (folder / "shop.item").open("w") as file:
        file.write("item_id:token\ttitle:token_seq\timage:token\n")
        file.writelines(f"{item}\tthing {item} of kind {item % 300}\titem.png\n" for item in range(items))
    count = interactions(folder / "shop.inter", users, items, per_user, taste)
    ours = {
        "requests": {"protocol": "blind", "items": 1000, "per_item": 10, "users": None},
        "ranker": {
            "reward": "VBPR",
            "judge": "VBPR",
            "same_judge": same_judge,
            "settings": {"VBPR": {"train_batch_size": 65_536}},
        },
        "controls": [],
        "threads": 1,
    }
    evaluation = {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": "user",
        "mode": {"valid": "uni100", "test": "full"},
    }
    values = {
        "dataset": "shop",
        "data_path": str(out.resolve()),
        "epochs": 1,
        "use_gpu": False,
        "eval_args": evaluation,
        "recgen": ours,
    }
    (out / "shop.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    print(f"{out}: {users} users, {items} items, {count} interactions")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--per-user", type=int, default=20)
    parser.add_argument("--same-judge", action="store_true", help="One ranking model is reward and judge.")
    options = parser.parse_args()
    make(options.out, options.users, options.items, options.per_user, options.same_judge)


if __name__ == "__main__":
    main()
