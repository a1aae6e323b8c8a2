"""Several generators of a kind in one run, images made elsewhere, and what is said of backbones before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recgen import api as session
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


@pytest.fixture
def made(tmp_path: Path, dataset: Path) -> Callable[[str], Path]:
    """A function that makes a folder of images of one shade for all items, with a manifest."""

    def make(name: str, shade: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        Image.new("RGB", (32, 32), (shade, shade, shade)).save(folder / "all.png")
        pd.DataFrame({"item_id": [f"i{n}" for n in range(30)], "path": "all.png"}).to_csv(
            folder / "manifest.csv", index=False
        )
        return folder

    return make


def two_folders(tmp_path: Path, write_config, made) -> Path:
    glide, lavit = made("glide", 40), made("lavit", 200)
    return write_config(
        tmp_path,
        generators=["glide", "lavit"],
        glide={"generator": "folder", "path": str(glide)},
        lavit={"generator": "folder", "path": str(lavit)},
    )


def test_one_run_has_two_folders_of_images(tmp_path: Path, write_config, made) -> None:
    path = two_folders(tmp_path, write_config, made)
    session.run(str(path), str(tmp_path / "run"), (), until="generate")
    manifest = pd.read_parquet(tmp_path / "run/creatives/manifest.parquet")
    assert manifest.groupby("generator").size().to_dict() == {"glide": 12, "lavit": 12}
    for row in manifest.itertuples():
        shade = np.asarray(Image.open(tmp_path / "run" / row.path)).mean()
        assert shade == {"glide": 40, "lavit": 200}[row.generator]
    again = load_config(str(tmp_path / "run/config.yaml"))
    assert {name: spec.kind for name, spec in again.generators.items()} == {
        "glide": "folder",
        "lavit": "folder",
    } and again.generators == load_config(str(path)).generators


def test_a_changed_image_is_noticed(tmp_path: Path, write_config, made) -> None:
    path = two_folders(tmp_path, write_config, made)
    run = RunContext(load_config(str(path)), tmp_path / "run")
    before = pipeline.fingerprints(pipeline.tasks(run), 0)
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "glide/all.png")
    after = pipeline.fingerprints(pipeline.tasks(run), 0)
    changed = {name for name in before if before[name] != after[name]}
    assert {"dataset/glide", "generator.fit/glide", "generate/glide", "evaluate/glide"} <= changed
    assert not {"dataset/requests", "features", "ranker/judge", "generate/lavit"} & changed


def test_missing_images_stop_the_run_before_features(tmp_path: Path, write_config, made) -> None:
    path = two_folders(tmp_path, write_config, made)
    pd.DataFrame({"item_id": ["i0"], "path": "all.png"}).to_csv(tmp_path / "lavit/manifest.csv", index=False)
    with pytest.raises(UserError, match=r"lavit: found no usable image for 1[0-2] of 12 requests"):
        session.run(str(path), str(tmp_path / "run"), ())
    assert not (tmp_path / "run/features").exists() and not (tmp_path / "run/ranker").exists()


@pytest.mark.parametrize(
    "ours, message",
    [
        (
            {"mine": {"generator": "foldr", "path": "x"}},
            r"recgen.mine.generator: found 'foldr'.*Did you mean 'folder'",
        ),
        (
            {"a/b": {"generator": "folder", "path": "x"}},
            r"recgen.a/b: found 'a/b'; expected a name of letters",
        ),
        ({"mine": {"path": "x"}}, r"recgen.mine: found an unknown key"),
        ({"mine": {"generator": "folder"}, "generators": ["mine"]}, r"recgen.mine.path"),
        (
            {"mine": {"generator": "folder", "pth": "x"}, "generators": ["mine"]},
            r"recgen.mine.pth.*Did you mean 'path'",
        ),
    ],
)
def test_mistakes_in_names_of_ones_own(tmp_path: Path, write_config, ours: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(str(write_config(tmp_path, **ours)))


LCM = {"decode": {"sampler": "lcm", "steps": 4, "guidance_scale": 1.5}}


@pytest.mark.parametrize(
    "ours, message",
    [
        (
            {"generators": ["textual_inversion"], "backbone": "XL"},
            r"textual_inversion: found .* family stable-diffusion-xl",
        ),
        (
            {"generators": ["stable_diffusion"], "stable_diffusion": LCM},
            r"recgen.lcm_lora: found null, and stable_diffusion",
        ),
        (
            {"generators": ["t1", "rebeca"], "ip_adapter": None},
            r"recgen.ip_adapter: found null, and rebeca draws from image",
        ),
        (
            {"generators": ["openjourney"], "openjourney": {"checkpoint": "/no/such"}},
            r"recgen.openjourney.checkpoint",
        ),
    ],
)
def test_what_cannot_draw_is_said_before_anything_starts(
    tmp_path, write_config, tiny_xl, ours: dict, message: str
) -> None:
    ours = {**ours, "backbone": str(tiny_xl)} if ours.get("backbone") else ours
    with pytest.raises(UserError, match=message):
        session.run(str(write_config(tmp_path, **ours)), str(tmp_path / "run"), ())
    assert not (tmp_path / "run/dataset").exists()


def test_a_generator_draws_with_a_checkpoint_of_its_own(
    tmp_path: Path, write_config, tiny_xl, tiny_diffusion
) -> None:
    ours = {"stable_diffusion": {"checkpoint": str(tiny_xl)}, "generators": ["stable_diffusion"]}
    config = load_config(str(write_config(tmp_path, **ours)))
    run = RunContext(config, tmp_path / "run")
    assert (
        run.models.backbone_for("stable_diffusion").name == tiny_xl.name
        and run.models.backbone.name == tiny_diffusion.name
    )
    weights = {task.name: task.reads.get("weights") for task in pipeline.tasks(run)}
    assert weights["generator.fit/stable_diffusion"][0][0] == str(tiny_xl)
