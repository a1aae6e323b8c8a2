"""Controls: whose image is shown to whom, and that none of them knows the user of its request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from generators.controls import Blank, Constant, Original, Placebo, PlaceboSettings, RandomItem, Settings
from generators.controls.images import half_of
from generators.controls.swapped import donors
from recgen.core.seeding import seed_for
from recgen.data.types import Request, RunData

USERS, ITEMS = 40, 12


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> RunData:
    """Forty users who have met three of twelve items each; the last item has no image; features are one-hot."""
    folder = tmp_path_factory.mktemp("catalogue")
    paths: list[Path | None] = []
    for item in range(ITEMS - 1):
        paths.append(folder / f"{item}.png")
        Image.new("RGB", (16, 16), (20 * item, 100, 50)).save(folder / f"{item}.png")
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(USERS) for item in rng.choice(ITEMS, 3, replace=False)]
    log = pd.DataFrame(rows, columns=["user", "item"]).assign(like=True, timestamp=0.0, split="train")
    users, items = [f"u{n}" for n in range(USERS)], [f"i{n}" for n in range(ITEMS)]
    features = np.eye(ITEMS, dtype=np.float32)
    features[-1] = np.nan
    return RunData(
        users, items, [f"item {n}" for n in range(ITEMS)], [*paths, None], features, features, log, 5
    )


class Fond:
    """A reward whose users of half 0 like image 3 best and those of half 1 image 7."""

    def __init__(self, data: RunData) -> None:
        self.data, self.asked = data, set()

    def score(self, users, items, embeddings):
        self.asked |= set(zip(users, items, strict=True))
        likes = [3 if half_of(user, self.data) == 0 else 7 for user in users]
        return np.asarray(embeddings)[np.arange(len(users)), likes]


def shown(kind, data: RunData, requests, reward=None) -> list[str | None]:
    control = kind(Settings(), None, None)
    control.fit(data, reward=reward)
    return [each.recipe.get("image_of") for each in control.generate(requests, data)]


def asked(n: int = 12) -> list[Request]:
    return [Request(f"u{k}", f"i{k % 11}", k, ("i1",)) for k in range(n)]


def test_original_and_random_item(catalogue):
    requests = asked()
    assert shown(Original, catalogue, requests) == [request.item_id for request in requests]
    others = shown(RandomItem, catalogue, requests)
    assert all(image != request.item_id for image, request in zip(others, requests, strict=True))
    assert len(set(others)) > 3 and "i11" not in others
    assert others[4:] == shown(RandomItem, catalogue, requests[4:]), "the batch decides nothing"


def test_items_without_an_image_are_left_to_the_others(catalogue):
    bare = Request("u1", "i11", 0)
    assert not Original.answers(bare, catalogue) and Blank.answers(bare, catalogue)
    assert RandomItem.answers(bare, catalogue) and Constant.answers(bare, catalogue)
    none = replace(catalogue, images=[None] * ITEMS)
    assert not RandomItem.answers(bare, none) and not Constant.answers(bare, none)


def test_the_constant_image_is_chosen_by_users_of_the_other_half(catalogue):
    reward = Fond(catalogue)
    found = shown(Constant, catalogue, asked(), reward)
    other = ["i7" if half_of(request.user_id, catalogue) == 0 else "i3" for request in asked()]
    assert found == other and len(set(found)) == 2
    log = catalogue.interactions
    met = {(f"u{user}", f"i{item}") for user, item in zip(log["user"], log["item"], strict=True)}
    assert not reward.asked & met, "users are asked about items that they have not met"


def test_blank_is_black(catalogue):
    control = Blank(Settings(), None, None)
    (made,) = control.generate(asked(1), catalogue)
    assert np.asarray(made.image).max() == 0


def test_swapped_gives_each_creative_of_an_item_to_another_user_once():
    requests = [Request(f"u{k}", f"i{k % 4}", k, (f"h{k}",)) for k in range(15)]
    found = donors(requests, run_seed=1)
    assert all(
        a.item_id == b.item_id and a.user_id != b.user_id for a, b in zip(requests, found, strict=True)
    )
    assert sorted(each.seed for each in found) == list(range(15))
    assert found != donors(requests, run_seed=2)
    backwards = donors(requests[::-1], run_seed=1)
    assert backwards[::-1] == found, "the order of the requests decides nothing"


def test_a_user_alone_with_an_item_gets_what_would_be_drawn_for_another():
    requests = [Request("a", "i1", 1, ("i3", "i2")), Request("b", "i2", 2, ("i1", "i4"))]
    first, second = donors(requests, run_seed=1)
    assert (first.user_id, first.item_id, first.history) == ("b", "i1", ("i4",)), (
        "the item itself is no history"
    )
    assert (second.user_id, second.item_id, second.history) == ("a", "i2", ("i3",))
    assert donors(requests[:1], run_seed=1) == [None]


class Drawer:
    """A backbone that draws a grey of its seed."""

    name, precision = "grey", "float32"

    def __init__(self):
        self.batches = []

    def generate(self, conditions, sampling):
        self.batches.append([condition.prompt for condition in conditions])
        return [Image.new("L", (8, 8), condition.seed % 256).convert("RGB") for condition in conditions]


class Eye:
    """An encoder that sees brightness."""

    def images(self, images):
        return np.array([[np.asarray(image).mean()] for image in images])


class Particular:
    """A reward whose users with an even number like bright images, and dark ones of the item i3; the others the opposite."""

    @staticmethod
    def likes_bright(user: str, item: str) -> bool:
        return (int(user[1:]) % 2 == 0) != (item == "i3")

    def score(self, users, items, embeddings):
        signs = [1 if self.likes_bright(*pair) else -1 for pair in zip(users, items, strict=True)]
        return torch.from_numpy(embeddings[:, 0]) * torch.tensor(signs)


@pytest.mark.parametrize("noises", [2, 5, 8, 70])
def test_the_placebo_is_what_the_reward_says_the_user_likes_best_of_as_many_noises(catalogue, noises):
    settings = PlaceboSettings(noises=noises)
    requests = [*asked(), Request("u5", "i3", 0), Request("u6", "i3", 0)]
    found = list(Placebo(settings, Drawer(), Eye()).generate(requests, catalogue, Particular()))
    assert [each.request for each in found] == requests
    for request, made in zip(requests, found, strict=True):
        pair = request.user_id, request.item_id
        seeds = [
            seed_for(catalogue.run_seed, f"placebo noise {n}", item=request.item_id) for n in range(noises)
        ]
        greys = [seed % 256 for seed in seeds]
        best = max(greys) if Particular.likes_bright(*pair) else min(greys)
        assert np.asarray(made.image).mean() == best and made.recipe["noise"] == greys.index(best)
        assert made.recipe["noises"] == noises and made.recipe["prompt"] == f"item {request.item_id[1:]}"
    assert PlaceboSettings().noises == 8


def test_the_placebo_draws_an_items_images_once_and_no_request_sees_another(catalogue):
    requests = [Request(f"u{user}", f"i{item}", 7 * user, ("i1",)) for user in range(4) for item in range(3)]
    drawer = Drawer()
    together = list(Placebo(PlaceboSettings(), drawer, Eye()).generate(requests, catalogue, Particular()))
    assert drawer.batches == [[f"item {item}"] * 8 for item in range(3)], "each a batch of its own"
    assert together[0].recipe["noise"] != together[3].recipe["noise"], "users of one item differ"
    for request, made in zip(requests, together, strict=True):
        alone = Placebo(PlaceboSettings(), Drawer(), Eye())
        (one,) = alone.generate([request], catalogue, Particular())
        assert one.recipe == made.recipe


def test_images_of_the_placebo_beyond_what_is_kept_are_drawn_again(catalogue, monkeypatch):
    monkeypatch.setattr("generators.controls.placebo._PIXELS", 2 * 8 * 8 * 8)  # of two items
    drawer = Drawer()
    requests = [Request("u1", f"i{item}", 0, ()) for item in (0, 1, 0, 2, 0, 1)]
    made = list(Placebo(PlaceboSettings(), drawer, Eye()).generate(requests, catalogue, Particular()))
    assert [batch[0] for batch in drawer.batches] == ["item 0", "item 1", "item 2", "item 1"]
    assert made[1].recipe == made[5].recipe
