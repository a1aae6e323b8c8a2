"""Corrections of taste's image embedding: learned by the gradient, kept, personal, and of use for pairs never learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from contract import REQUESTS, GeneratorContract, ask, assert_same_images
from pydantic import ValidationError
from small_settings import DECODE
from small_settings import TASTE as SMALL

from generators.common.settings import Refinement
from generators.taste import Settings, Taste
from generators.taste.corrected import Corrector, learn
from recgen.data.types import RunData
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling

SAMPLING = Sampling(steps=2, guidance_scale=2.0, ip_adapter_scale=1.0)
IMAGE = {**SMALL, "show": "image", "keep": None}


class TestTasteWithCorrections(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return Taste(Settings(**{**IMAGE, "refine": {"learn": 8, "last": 1}, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


def conditions(count: int, width: int = 16) -> list[Condition]:
    rng = np.random.default_rng(4)
    rows = rng.normal(1.0, 2.0, (count, width)).astype(np.float32)
    return [Condition(n, f"thing {n}", image_embedding=row) for n, row in enumerate(rows)]


def test_it_corrects_nothing_before_it_has_learned() -> None:
    known, start = torch.randn(5, 7), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(Corrector.of(known, 3, 1).corrected(known, start), start)


def taught(corrector, backbone, encoder, known, score, texts=None, settings=None) -> None:
    texts = torch.zeros(len(known), 16) if texts is None else texts
    settings = settings or Refinement(last=2)
    learn(
        corrector, backbone, encoder, conditions(len(known)), known, texts, lambda part: score, SAMPLING, settings,
        lambda *_: None,
    )  # fmt: skip


def test_the_gradient_of_the_reward_reaches_every_layer(backbone, encoder) -> None:
    known = torch.randn(20, 5)
    corrector = Corrector.of(known, 16, 1)
    before = {name: value.clone() for name, value in corrector.named_parameters()}
    taught(corrector, backbone, encoder, known, lambda e: e[:, 0])
    assert all(not torch.equal(value, before[name]) for name, value in corrector.named_parameters())


def test_a_flat_reward_teaches_nothing(backbone, encoder) -> None:
    known = torch.randn(20, 5)
    corrector = Corrector.of(known, 16, 1)
    taught(corrector, backbone, encoder, known, lambda e: 0 * e[:, 0])
    assert corrector.layers[-1].weight.abs().max() == 0


class Two:
    """A reward of users of two kinds: what the even ones like of the first number of an image, the odd ones dislike."""

    def __init__(self, data: RunData) -> None:
        self.data = data

    def signs(self, users) -> torch.Tensor:
        return torch.tensor([1.0 - 2.0 * (self.data.user_rows[user] % 2) for user in users])

    def score_all(self, users, items) -> torch.Tensor:
        rows = [self.data.item_rows[item] for item in items]
        return self.signs(users)[:, None] * torch.from_numpy(self.data.image_features[rows, 0])[None]

    def score(self, users, items, embeddings) -> torch.Tensor:
        return self.signs(users) * torch.as_tensor(embeddings)[:, 0]

    def differentiable(self, users, items):
        return lambda embeddings: self.signs(users) * embeddings[:, 0]

    def unseen(self) -> pd.DataFrame:
        table = self.data.interactions.sample(200, random_state=1)
        return pd.DataFrame({
            "user_id": [self.data.user_ids[user] for user in table["user"]],
            "item_id": [self.data.item_ids[item] for item in table["item"]], "like": table["like"].to_numpy(),
        })  # fmt: skip


@pytest.fixture(scope="module")
def two_kinds() -> RunData:
    rng = np.random.default_rng(2)
    features = rng.normal(1.0, 2.0, (30, 16)).astype(np.float32)
    signs = 1 - 2 * (np.arange(40) % 2)
    rows = [
        {
            "user": user,
            "item": int(item),
            "like": bool(signs[user] * (features[item, 0] - 1) + rng.normal() > 0),
            "timestamp": float(n),
            "split": "train",
        }
        for user in range(40)
        for n, item in enumerate(rng.choice(30, 15, replace=False))
    ]
    return RunData(
        [f"u{n}" for n in range(40)], [f"i{n}" for n in range(30)], [f"a thing number {n}" for n in range(30)],
        [Path(f"{n}.png") for n in range(30)], features, rng.normal(size=(30, 16)).astype(np.float32), pd.DataFrame(rows), 5,
    )  # fmt: skip


def test_pairs_never_learned_from_gain_what_is_their_users_own(backbone, encoder, two_kinds) -> None:
    """Of users and items of which no correction was learned; a user of the other kind has the opposite correction."""
    reward, rng = Two(two_kinds), np.random.default_rng(3)
    decode = {"steps": 2, "guidance_scale": 2.0}
    taste = Taste(
        Settings(**{**IMAGE, "decode": decode}, refine={"last": 2, "content": 0.0}), backbone, encoder
    )
    taste.fit(two_kinds, reward)
    requests = [ask(f"u{20 + n}", f"i{15 + n % 15}") for n in range(20)]

    def scores() -> np.ndarray:
        images = [creative.image for creative in taste.generate(requests, two_kinds, reward)]
        return reward.score([r.user_id for r in requests], [], encoder.images(images)).numpy()

    plain = scores()
    pairs = [ask(f"u{rng.integers(20)}", f"i{rng.integers(15)}") for _ in range(320)]
    taste.learn_corrections(pairs, two_kinds, reward)
    gain = scores() - plain
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
    taste._learned = replace(taste.learned, corrector=Turned(taste.learned.corrector))
    assert (scores() - plain).mean() < 0


class Turned:
    """Corrections of the other kind of user: those of the neighbour in a batch of users of alternating kinds."""

    def __init__(self, corrector: Corrector) -> None:
        self.corrector = corrector

    def corrected(self, known, start) -> np.ndarray:
        change = self.corrector.corrected(known, start) - start
        return start + np.roll(change, 1, axis=0)


def test_the_hinge_holds_back_what_takes_the_likeness_to_the_text_down(backbone, encoder) -> None:
    known, texts = torch.randn(64, 5), torch.from_numpy(encoder.texts([f"thing {n}" for n in range(64)]))
    rows = [torch.nn.functional.cosine_similarity]

    def likeness(content: float) -> float:
        corrector = Corrector.of(known, 16, 1)
        away = lambda e: -20 * rows[0](e, texts[: len(e)])  # noqa: E731
        taught(corrector, backbone, encoder, known, away, texts, Refinement(last=2, content=content))
        shown = conditions(64)
        moved = corrector.corrected(known, np.stack([each.image_embedding for each in shown]))
        after = [replace(each, image_embedding=row) for each, row in zip(shown, moved, strict=True)]
        seen = torch.from_numpy(encoder.images(list(backbone.generate(after, SAMPLING))))
        return rows[0](seen, texts).mean().item()

    assert likeness(100.0) > likeness(0.0)


def test_it_is_saved_with_what_was_fitted(backbone, encoder, data, tmp_path: Path) -> None:
    taste = TestTasteWithCorrections.make(backbone, encoder)
    taste.fit(data)
    taste.save(tmp_path)
    again = TestTasteWithCorrections.make(backbone, encoder)
    again.load(tmp_path)
    drawn = list(taste.generate(REQUESTS, data))
    assert_same_images(drawn, list(again.generate(REQUESTS, data)))
    assert all(creative.recipe["corrected"] > 0 for creative in drawn)
    plain = Taste(Settings(**IMAGE), backbone, encoder)
    plain.fit(data)
    assert "corrected" not in next(iter(plain.generate(REQUESTS, data))).recipe


def test_learning_is_planned_by_its_pairs() -> None:
    """Gradients pass the last steps twice, under guidance: with the condition and without it."""
    plain, learned = (Settings(keep=None, refine={"learn": pairs, "last": 3}) for pairs in (0, 100))
    fit = learned.workload(10, 50).fit
    assert fit.trained == 600 and fit.images == 300 and plain.workload(10, 50).fit.trained == 0
    assert learned.workload(10, 50).draw == plain.workload(10, 50).draw, "serving costs one image"
    batch = min(16, learned.decode.batch_size)
    assert (
        learned.held(None, None, None).gradients == 6 * batch and plain.held(None, None, None).gradients == 0
    )


def test_words_have_nothing_to_correct() -> None:
    with pytest.raises(ValidationError, match="words have no gradient"):
        Settings(show="words", refine={"learn": 10})
