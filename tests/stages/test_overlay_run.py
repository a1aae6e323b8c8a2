"""A run over a real log with a taste in posters laid over it, up to its dataset."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from recgen import api
from recgen.data.simulation.simulator import Truth

CONFIG = {
    "dataset": "films",
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"], "item": ["item_id", "class"]},
    "recgen": {
        "simulator": {"base": "ml-100k", "seed": 3},
        "text_fields": ["class"],
        "generators": ["stable_diffusion"],
    },
}


@pytest.mark.slow
def test_the_real_log_with_a_known_taste_becomes_the_runs_data(tmp_path):
    config = tmp_path / "films.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    api.run(str(config), str(tmp_path / "run"), (), until="dataset")
    items = pd.read_parquet(tmp_path / "run/dataset/items.parquet")
    assert len(items) == 1682 and items["image"].notna().all() and "Comedy" in set(items["text"])
    truth = Truth.load(tmp_path / "run/dataset/simulator")
    log = pd.read_parquet(tmp_path / "run/dataset/interactions.parquet")
    assert set(log["user_id"]) <= set(truth.user_ids) and set(log["rating"]) == {1.0, 5.0}
    looks = truth.attributes_of(log["item_id"].tolist())
    style = truth.utility(log["user_id"].tolist(), looks)
    assert style[log["like"]].mean() > style[~log["like"]].mean() + 0.3, (
        "users like posters in styles that they like"
    )
