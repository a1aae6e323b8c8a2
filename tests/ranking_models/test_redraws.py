"""Redraws of the items' images in training: shown by chance beside the own image, never afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_dataset import write_features

from recgen.core.errors import UserError

ITEMS, R = 25, 3
LABELS = {
    "load_col": {"inter": ["user_id", "item_id", "rating"]},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "labeled"},
}
KEYS = {"Verifier": LABELS, "VBPR": {}}


def redraws(folder, dim: int = 12) -> str:
    """Write R redraws of each item, whose every number says which item and redraw it is, but for the last item."""
    tokens = [f"i{item}" for item in range(ITEMS - 1) for _ in range(R)]
    rows = [[100 * item + n + 1] * dim for item in range(ITEMS - 1) for n in range(R)]
    write_features(folder / "redraws.safetensors", tokens, np.array(rows, dtype=np.float32))
    return str(folder / "redraws.safetensors")


@pytest.mark.parametrize("name", ["Verifier", "VBPR"])
def test_training_shows_each_of_them_as_often_as_the_own_image(build, tmp_path, name):
    model = build(name, image_redraws=redraws(tmp_path), **KEYS[name]).model.train()
    items = torch.arange(1, model.n_items).repeat_interleave(4000)
    shown, own = model.shown_images(items), model.features("image")[items]
    is_own = (shown == own).all(1)
    tokens = model_tokens(model, items)
    drawn = (shown[:, 0] - 100 * tokens).round()
    shares = [float((drawn[~is_own & (tokens < ITEMS - 1)] == n + 1).float().mean()) for n in range(R)]
    assert sum(shares) == pytest.approx(1) and shares == pytest.approx([1 / R] * R, abs=0.02)
    assert float(is_own[tokens < ITEMS - 1].float().mean()) == pytest.approx(1 / (R + 1), abs=0.02)
    assert is_own[tokens == ITEMS - 1].all(), "an item without redraws shows its own image"
    model.eval()
    assert torch.equal(model.shown_images(items), own)


def model_tokens(model, items: torch.Tensor) -> torch.Tensor:
    """Return the number in each item's token."""
    return torch.tensor([int(TOKENS[item][1:]) for item in items.tolist()])


TOKENS: list[str] = []


@pytest.fixture(autouse=True)
def tokens(build, monkeypatch):
    """Keep RecBole's item tokens, in the order of its ids; the data set is the same in every test."""
    built = build("VBPR")
    TOKENS[:] = [str(token) for token in built.dataset.field2id_token["item_id"]]


def test_a_model_trained_with_them_cares_less_for_what_they_change(build, tmp_path):
    """Half of the numbers are redrawn at random: a verifier that saw redraws reads the other half."""
    rng = np.random.default_rng(0)
    settings = build("VBPR").config
    from safetensors.torch import load_file

    own = load_file(settings["item_features"]["image"])["features"].numpy()
    ids = [f"i{item}" for item in range(ITEMS)]
    rows = np.repeat(own, 8, axis=0)
    rows[:, 6:] = rng.permutation(rows[:, 6:])
    write_features(tmp_path / "many.safetensors", [token for token in ids for _ in range(8)], rows)
    moved, steps = (
        [],
        {"epochs": 25, "learning_rate": 0.1, "stopping_step": 25, "user_reg": 0.1, "map_reg": 0.1},
    )
    for keys in ({}, {"image_redraws": str(tmp_path / "many.safetensors")}):
        built = build("Verifier", users=60, per_user=20, **steps, **LABELS, **keys)
        built.trainer().fit(built.train, built.valid, saved=False, verbose=False)
        weights = (built.model.user_embedding.weight.detach() @ built.model.map.detach()[:-1, :-1]).abs()
        moved.append(float(weights[1:, 6:].mean() / weights[1:, :6].mean()))
    assert moved[1] < 0.8 * moved[0]


def test_a_saved_model_is_of_its_redraws(build, tmp_path):
    plain, drawn = (build("VBPR", **keys).model for keys in ({}, {"image_redraws": redraws(tmp_path)}))
    assert "redraws" in drawn.identity and "redraws" not in plain.identity
    assert {key: value for key, value in drawn.identity.items() if key != "redraws"} == plain.identity


def test_another_encoders_redraws_are_refused(build, tmp_path):
    with pytest.raises(UserError, match="embeddings of width 5; expected 12"):
        build("VBPR", image_redraws=redraws(tmp_path, dim=5))
