"""Controls: whose image is shown to whom, and that none of them knows the user of its request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from generators.controls import Blank, Constant, Original, Placebo, PlaceboSettings, RandomItem, Settings
from generators.controls.images import half_of
from generators.controls.swapped import donors
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

    def generate(self, conditions, sampling):
        return [Image.new("L", (8, 8), condition.seed % 256).convert("RGB") for condition in conditions]


class Eye:
    """An encoder that sees brightness."""

    def images(self, images):
        return np.array([[np.asarray(image).mean()] for image in images])


class Bright:
    """A reward that likes bright images."""

    def score(self, users, items, embeddings):
        return embeddings[:, 0]


def test_the_placebo_is_the_rewards_favourite_of_eight(catalogue):
    one, many = (
        [
            np.asarray(each.image).mean()
            for each in Placebo(settings, Drawer(), Eye()).generate(asked(), catalogue, Bright())
        ]
        for settings in (PlaceboSettings(noises=2), PlaceboSettings())
    )
    assert all(a <= b for a, b in zip(one, many, strict=True)) and np.mean(many) > np.mean(one)
    placebo = Placebo(PlaceboSettings(), Drawer(), Eye())
    recipes = [each.recipe for each in placebo.generate(asked(3), catalogue, Bright())]
    alone = Placebo(PlaceboSettings(decode={"batch_size": 1}), Drawer(), Eye())
    assert [each.recipe["noise"] for each in alone.generate(asked(3), catalogue, Bright())] == [
        each["noise"] for each in recipes
    ], "however many are drawn at once"
    assert all(each["noises"] == 8 for each in recipes) and [each["prompt"] for each in recipes] == [
        "item 0",
        "item 1",
        "item 2",
    ]
