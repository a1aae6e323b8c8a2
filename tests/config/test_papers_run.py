"""The papers' other configurations, each from raw files in the published layout to a report, by the command that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import SHIPPED, command
from PIL import Image

from recgen.config.loader import load_config

ITEMS, USERS, EACH = 30, 12, 22
DECODE = "decode: {steps: 2, guidance_scale: 1}"
LEARNS = f"{{max_steps: 1, train_users: 4, held_out_users: 2, {DECODE}}}"
GROUPS = f"{{clusters: 1, max_steps: 1, images_per_step: 2, {DECODE}}}"
PRIOR = f"{{layers: 1, heads: 2, width: 16, max_steps: 2, users_per_step: 4, images_per_user: 4, prior_steps: 2, {DECODE}}}"
SHORT = {
    **dict.fromkeys(("ragar", "iamg"), LEARNS),
    **dict.fromkeys(("textual_inversion", "dreambooth"), GROUPS),
    **dict.fromkeys(("rebeca", "noue", "t1"), PRIOR),
    "stable_diffusion": f"{{{DECODE}}}",
}


def draw(file: Path) -> None:
    """Draw some image, another for each name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(list(file.stem.encode())).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((40, 40), Image.Resampling.NEAREST).save(file)


def met(count: int = EACH, items: int = ITEMS) -> list[list[int]]:
    """Return the items that each user met, in their order."""
    return [np.random.default_rng(user).permutation(items)[:count].tolist() for user in range(USERS)]


def ml_latest(raw: Path) -> None:
    folder = raw / "ml-latest-small"
    for n in range(ITEMS):
        draw(folder / f"posters/{n}.jpg")
    films = [f'{n},"Film, The {n} (19{50 + n})",Drama|War' for n in range(ITEMS)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]) + "\n")
    links = [f"{n},0{n},{n}" for n in range(ITEMS)]
    (folder / "links.csv").write_text("\n".join(["movieId,imdbId,tmdbId", *links]) + "\n")
    rows = [
        f"{u},{n},{4.5 if n % 5 else 2.0},{100 * u + at}"
        for u, items in enumerate(met())
        for at, n in enumerate(items)
    ]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n")


def ser30k(raw: Path) -> None:
    folder, found = raw / "SER_Dataset", []
    for n in range(36):
        draw(folder / f"Images/theme-{n % 6}/{n}.jpg")
        found.append(
            {
                "topic": f"theme-{n % 6}",
                "file_name": f"{n}.jpg",
                "text": "hello" if n % 2 else "",
                "anno": n % 7 + 1,
            }
        )
    (folder / "Annotations").mkdir()
    (folder / "Annotations/all_annos.json").write_text(json.dumps({"annotations": found}))


def mind(raw: Path) -> None:
    folder = raw / "mind/MINDsmall_train"
    for n in range(ITEMS):
        draw(raw / f"mind/images/N{n}.jpg")
    folder.mkdir(parents=True)
    (folder / "news.tsv").write_text(
        "".join(f'N{n}\tnews\tworld\tTitle "{n}\tText\t-\t[]\t[]\n' for n in range(ITEMS))
    )
    rows = []
    for user, items in enumerate(met()):
        before, shown = (
            " ".join(f"N{n}{mark}" for n in part) for part, mark in ((items[:-4], ""), (items[-4:], "-1"))
        )
        rows.append(f"{user}\tU{user}\t11/{user + 1}/2019 8:36:57 AM\t{before}\t{shown}\n")
    (folder / "behaviors.tsv").write_text("".join(rows))


def flickr_aes(raw: Path) -> None:
    folder, names = raw / "flickr-aes", [f"farm1_{n}_39_9.jpg" for n in range(130)]
    for name in names:
        draw(folder / "40K" / name)
    rows = [
        f"A{u}, {names[n]}, {5 if at % 12 else 1}"
        for u, items in enumerate(met(120, 130))
        for at, n in enumerate(items)
    ]
    file = folder / "FLICKR-AES_image_labeled_by_each_worker.csv"
    file.write_text("\n".join([" worker, imagePair, score", *rows]) + "\n")


@pytest.mark.parametrize(
    "config, make, more, generators",
    [  # some of each one's generators: all of them take minutes
        ("ml-latest", ml_latest, (), ["iamg", "textual_inversion"]),
        pytest.param(
            "ser30k", ser30k, ("--users", "12"), ["ragar", "stable_diffusion"], marks=pytest.mark.slow
        ),
        pytest.param("mind", mind, (), ["dreambooth", "stable_diffusion"], marks=pytest.mark.slow),
        pytest.param("flickr-aes", flickr_aes, (), ["rebeca", "noue", "t1"], marks=pytest.mark.slow),
    ],
)
def test_it_runs_from_the_raw_files_to_a_report(
    nowhere: Path,
    monkeypatch,
    config: str,
    make: Callable[[Path], None],
    more: tuple[str, ...],
    generators: list[str],
) -> None:
    settings = load_config(config).settings
    assert settings.download is not None and set(generators) <= set(settings.generators)
    make(nowhere / "raw")
    program, *words = settings.download.prepare.split()
    assert program == "recgen" and command(monkeypatch, *words, *more) == 0
    chosen = [
        f"recgen.generators={json.dumps(generators)}",
        *(f"recgen.{name}={SHORT[name]}" for name in generators),
    ]
    short = (
        "epochs=2",
        "use_gpu=False",
        "recgen.threads=1",
        "recgen.requests=2",
        "recgen.downstream.seeds=1",
        "recgen.downstream.items=2",
    )
    assert command(monkeypatch, "run", "--config", config, "--set", *SHIPPED, *short, *chosen) == 0
    run = nowhere / "runs" / config
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["creatives"]) == set(generators)
    assert all(found["cis"]["n"] == 2 for found in metrics["creatives"].values())
    assert (run / "report.html").stat().st_size > 10_000
