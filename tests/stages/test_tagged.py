"""Tags and foregrounds in a run: made once, for the generator that asks for them, and again only for what they follow from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recgen import api as session
from recgen.config.loader import load_config
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


@pytest.fixture(scope="module")
def tagged(tmp_path_factory, tiny_llm) -> dict[str, object]:
    """Settings of a run with I-AM-G, by the tiny language model and a vocabulary of two words."""
    path = tmp_path_factory.mktemp("vocabulary") / "own.yaml"
    path.write_text("caption: a {tone} image\ngroups: {tone: {phrases: [dark, light]}}\n")
    return {"generators": ["iamg"], "llm": str(tiny_llm), "tags": {"n": 3, "image": {"tagger": str(path)}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_config, tagged) -> Path:
    """The folder of a run with its features."""
    folder = tmp_path_factory.mktemp("tagged")
    session.run(str(write_config(folder, **tagged)), str(folder / "run"), (), until="features")
    return folder / "run"


def test_a_generator_gets_tags_and_foregrounds_in_the_catalogues_order(made) -> None:
    run = RunContext(load_config(str(made / "config.yaml")), made)
    table = pd.read_parquet(made / "features/tags.parquet").set_index("item_id")
    assert list(table.columns) == ["image", "text", "tags"] and len(table) == len(run.data.item_ids) == 30
    for token, tags in zip(run.data.item_ids, run.data.tags, strict=True):
        row = table.loc[token]
        assert tags == tuple(dict.fromkeys([*row["image"], *row["text"]])) and len(row["text"]) <= 3
        assert len(row["image"]) == 1 and row["image"][0] in ("dark", "light")
    assert run.data.foreground_features.shape == run.data.image_features.shape
    assert np.isfinite(run.data.foreground_features).all() and not run.data.captions and not run.data.keywords
    assert not (made / "features/foregrounds").exists(), "shards go when the whole is there"


def test_what_makes_them_anew(made, write_config, tagged, tmp_path) -> None:
    config = write_config(tmp_path, **tagged)

    def changed(*overrides: str) -> set[str]:
        prints = []
        for each in ((), overrides):
            run = RunContext(load_config(str(config), each), made)
            prints.append(pipeline.fingerprints(pipeline.tasks(run), 1))
        return {name for name, value in prints[0].items() if prints[1].get(name) != value}

    assert {"features/tags", "generator.fit/iamg"} <= changed(
        "recgen.tags.n=4"
    ) and "features" not in changed("recgen.tags.n=4")
    assert "features/tags" in changed("recgen.tags.domain=movie") & changed("recgen.tags.image=some/model")
    cut = changed("recgen.foreground=isnet")
    assert {"features/foregrounds", "generator.fit/iamg"} <= cut and "features/tags" not in cut
    assert "generator.fit/iamg" in changed("recgen.iamg.tags=2")
    strengths = changed("recgen.iamg.lambda1=2", "recgen.iamg.lambda2=0")
    assert "generate/iamg" in strengths and "generator.fit/iamg" not in strengths


def test_nothing_is_made_twice(made) -> None:
    assert pipeline.execute(RunContext(load_config(str(made / "config.yaml")), made), until="features") == []
