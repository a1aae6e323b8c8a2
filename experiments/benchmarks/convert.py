"""Seconds and peak memory of each converter on generated raw files of 1,000,000 interactions in the published layouts.

    python experiments/benchmarks/convert.py [--work DIR]

Each converter runs in a process of its own, the command that a user types; its peak is the largest resident set the system saw. A
second size, --interactions 4000000 say, shows whether memory grows with the data. Results go to convert.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from recgen.data.convert.flickr_aes import _RATINGS

USERS, ITEMS = 20_000, 100_000
PHOTO = b"\x89PNG\r\n\x1a\n"  # converters look at names, not into images


def clicks(count: int, users: int = USERS, items: int = ITEMS) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each user's items, `count` in all."""
    rng = np.random.default_rng(0)
    for user in range(users):
        yield user, rng.choice(items, count // users, replace=False)


def pog(raw: Path, count: int) -> None:
    """A POG of md5-like ids and Chinese titles with commas."""
    with (raw / "item_data.txt").open("w") as file:
        file.writelines(
            f"{n:032x},{n % 75:032x},//images.invalid/{n}.jpg,连衣裙 2019新款, 夏季 {n}\n"
            for n in range(ITEMS)
        )
    with (raw / "user_data.txt").open("w") as file:
        for user, items in clicks(count):
            file.write(f"{user:032x},{';'.join(f'{n:032x}' for n in items)},{user % 999:032x}\n")


def movielens(raw: Path, count: int) -> None:
    """The CSV layout of 25M."""
    with (raw / "movies.csv").open("w") as file:
        file.write("movieId,title,genres\n")
        file.writelines(f'{n},"Film {n}, The ({1950 + n % 70})",Drama|War\n' for n in range(ITEMS))
    with (raw / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        for user, items in clicks(count):
            file.writelines(f"{user},{n},{1 + n % 9 / 2},{10**9 + 7919 * int(n) % 10**8}\n" for n in items)


def ser30k(raw: Path, count: int) -> None:
    """30,739 stickers of 1,887 themes; its interactions are made, so the command asks for users enough."""
    (raw / "Annotations").mkdir()
    annotations = []
    for n in range(30_739):
        topic = raw / f"Images/topic-{n % 1887}"
        topic.mkdir(parents=True, exist_ok=True)
        (topic / f"{n}.png").write_bytes(PHOTO)
        annotations.append({"topic": topic.name, "file_name": f"{n}.png", "text": "hello", "anno": n % 7 + 1})
    (raw / "Annotations/all_annos.json").write_text(json.dumps({"annotations": annotations}))


def mind(raw: Path, count: int) -> None:
    """Ten clicks a row of behaviours, of which the history repeats on every row of a user."""
    with (raw / "news.tsv").open("w") as file:
        file.writelines(
            f'N{n}\tnews\tworld\tTitle "{n}\tAbstract {n}\thttps://x.invalid\t[]\t[]\n' for n in range(ITEMS)
        )
    with (raw / "behaviors.tsv").open("w") as file:
        for user, items in clicks(count):
            history = " ".join(f"N{n}" for n in items[:20])
            for turn, start in enumerate(range(20, len(items), 10)):
                shown = " ".join(f"N{n}-1" for n in items[start : start + 10])
                file.write(f"{user}\tU{user}\t11/{turn % 28 + 1:02}/2019 8:36:57 AM\t{history}\t{shown}\n")


def flickr_aes(raw: Path, count: int) -> None:
    """5,000 workers and 40,988 photos: five times the published number of ratings."""
    (raw / "40K").mkdir()
    for n in range(40_988):
        (raw / f"40K/farm1_{n}_94dae8ad97.png").write_bytes(PHOTO)
    with (raw / _RATINGS).open("w") as file:
        file.write(" worker, imagePair, score\n")
        for user, items in clicks(count, 5_000, 40_988):
            file.writelines(f"W{user}, farm1_{n}_94dae8ad97.png, {1 + n % 5}\n" for n in items)


def table(raw: Path, count: int) -> None:
    """Parquet."""
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": "a title", "category": "c"})
    items.to_parquet(raw / "items.parquet")
    rows = [(f"u{user}", f"i{n}") for user, items in clicks(count) for n in items]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id"]).assign(timestamp=np.arange(len(rows)))
    frame.to_parquet(raw / "interactions.parquet")


CONVERTERS: dict[str, tuple[Callable[[Path, int], None], list[str]]] = {
    "pog": (pog, []),
    "movielens": (movielens, []),
    "ser30k": (ser30k, ["--users", "30000"]),
    "mind": (mind, []),
    "flickr-aes": (flickr_aes, ["--min-likes", "10"]),
    "table": (table, []),
}


def measure(name: str, work: Path, count: int) -> dict[str, float | int]:
    """Make the raw files, convert them and return what it took."""
    make, options = CONVERTERS[name]
    raw, out = work / f"{name}-raw", work / name
    raw.mkdir(parents=True)
    # in a process of its own, for the system counts this one's memory as its children's before they become other programs
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(raw, count))
    maker.start()
    maker.join()
    size = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file() and path.suffix != ".png")
    command = ["-c", "from recgen.cli import main; main()", "data", "prepare", name]
    arguments = [*command, "--raw", str(raw), "--out", str(out), *options]
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{name} failed")
    kept = json.loads((out / "provenance.json").read_text())["kept"]
    for folder in (raw, out):
        shutil.rmtree(folder)
    return {
        "raw_mib": round(size / 2**20, 1),
        **{key: kept[key] for key in ("users", "items", "interactions")},
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    """Measure every converter and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/benchmarks"), help="for the files, on a disk with 1 GB free"
    )
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--only", choices=CONVERTERS, action="append")
    options = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    results = json.loads(path.read_text()) if path.is_file() else {}
    for name in options.only or CONVERTERS:
        results.setdefault(name, {})[str(options.interactions)] = found = measure(
            name, options.work, options.interactions
        )
        print(name, found, flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
