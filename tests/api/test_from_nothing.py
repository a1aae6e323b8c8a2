"""Every command of the guide "from nothing to Stable Diffusion 1.5" runs, in its order, on small models in the real formats."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import command
from PIL import Image

GUIDE = Path(__file__).parents[2] / "docs/guides/from-nothing.md"


def shop(folder: Path) -> None:
    """Ten customers, twelve products, a photograph of each."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    rows = [["Product ID", "Kind"], *([f"p{n}", ("hat", "shoes")[n % 2]] for n in range(24))]
    orders = [["Customer", "Product ID", "Stars", "Date"]]
    for user in range(10):
        for turn, item in enumerate(rng.choice(24, 9, replace=False)):
            orders.append([f"c{user}", f"p{item}", "5" if turn % 4 else "2", f"2024-01-{turn + 1:02d}"])
    for n in range(24):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"photos/p{n}.jpg")
    for name, table in (("products", rows), ("orders", orders)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(table)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.S)


@pytest.mark.slow
def test_every_command_of_the_guide_runs(tmp_path, monkeypatch, capsys, tiny_clip, tiny_diffusion):
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "shop")
    commands = [line.split("#")[0].split() for block in blocks("bash") for line in block.splitlines() if line]
    assert len(commands) >= 9 and all(words[0] == "recgen" for words in commands)
    edit = yaml.safe_load(blocks("yaml")[0])["recgen"]
    small = [
        "--set",
        f"recgen.encoder={tiny_clip}",
        f"recgen.backbone={tiny_diffusion}",
        "recgen.ip_adapter=null",
        "recgen.precision=float32",
    ]
    small += [
        "recgen.generators=[stable_diffusion]",
        "recgen.requests=4",
        "recgen.controls=[]",
        "recgen.gallery=2",
    ]
    small += [
        "recgen.stable_diffusion.decode.steps=1",
        "recgen.downstream={seeds: 1, controls: false}",
        "epochs=1",
        "topk=[3, 10]",
    ]
    for words in commands:
        if words[1] == "plan" and "--gpu" in words:
            values = yaml.safe_load(Path("shop.yaml").read_text())
            values["recgen"] |= edit  # the three lines that the guide has its reader change
            Path("shop.yaml").write_text(yaml.safe_dump(values))
        told = [*words[1:], *(small if words[1] == "run" else [])]
        status = command(monkeypatch, *told)
        said = capsys.readouterr()
        assert status == 0, f"{' '.join(words)}: {said.err}"
        if "--gpu" in words:
            assert "money" in said.out and "GiB" in said.out and "images" in said.out
    assert Path("runs/shop-sd15/report.html").is_file()


@pytest.mark.parametrize(
    ("installed", "wrong"),
    [(["faiss-cpu"], 0), (["faiss-gpu-cu12"], 0), (["faiss-cpu", "faiss-gpu-cu12"], 1)],
)
def test_two_packages_of_faiss_are_noticed(installed, wrong):
    from recgen.doctor import _faiss

    assert len(list(_faiss([*installed, "torch"]))) == wrong


def test_nothing_asks_for_faiss_of_two_kinds():
    asked = re.findall(r'"(faiss-[\w-]+)', (GUIDE.parents[2] / "setup.py").read_text())
    assert asked == ["faiss-cpu"]
