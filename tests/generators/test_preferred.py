"""preferred: the loss worked out by hand, what is compared with what, what trains, and the contract of every generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import REQUESTS, GeneratorContract, assert_same_images, pixels
from pydantic import ValidationError
from small_settings import DECODE
from small_settings import PREFERRED as SMALL
from torch import Tensor

from generators.common.lora import new_lora
from generators.common.training import Curves
from generators.preferred import Preferred, Settings
from generators.preferred.pairs import Pair, ranked
from generators.preferred.train import Trainer, nft_losses
from generators.taste import Settings as TasteSettings
from generators.taste import Taste
from recgen.core.errors import UserError
from recgen.diffusion.backbone import load_backbone
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling
from recgen.features.encoders import load_encoder

LAYERS = ("to_k_ip.0", "to_v_ip.0")


class TestContract(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes):
        return Preferred(Settings(**{**SMALL, **changes}), backbone, encoder)

    @staticmethod
    def batch(size):
        return {"decode": {**DECODE, "batch_size": size}}


def one(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


@pytest.mark.parametrize(
    ("preferred", "beta", "by_hand"),
    [
        (1.0, 1.0, (3 - 2) ** 2),  # v+ is v_theta
        (0.0, 1.0, (2 * 1 - 3 - 2) ** 2),  # v- is v_old mirrored
        (1.0, 0.5, (0.5 * 1 + 0.5 * 3 - 2) ** 2 / 0.5),
        (0.0, 0.5, (1.5 * 1 - 0.5 * 3 - 2) ** 2 / 0.5),
        (0.25, 1.0, 0.25 * 1 + 0.75 * 9),
    ],
)
def test_the_loss_by_hand(preferred: float, beta: float, by_hand: float) -> None:
    """Of v_theta = 3, v_old = 1 and v = 2."""
    found = nft_losses(one(3), one(1), one(2), torch.tensor([preferred]), beta)
    assert found.tolist() == pytest.approx([by_hand])


def test_the_loss_pulls_to_the_preferred_and_pushes_from_the_rejected() -> None:
    old, target = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)
    predicted = old.clone().requires_grad_(True)
    nft_losses(predicted, old, target, torch.tensor([1.0, 0.0]), 1.0).sum().backward()
    assert predicted.grad is not None
    pulled, pushed = predicted.grad.flatten().tolist()
    assert pulled < 0 < pushed and pulled == -pushed


def test_the_best_condition_is_preferred_to_the_worst_from_the_same_noise() -> None:
    """The third has the best mean, though the first has the best image."""
    scores = np.array([[9.0, 0.0], [1.0, 1.0], [5.0, 6.0]])
    assert ranked(scores, np.ones((3, 2), dtype=bool)) == [(0, 2, 1), (1, 2, 1)]


def test_an_image_that_no_longer_shows_the_item_is_not_preferred() -> None:
    scores, kept = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[False, False], [False, True]])
    assert ranked(scores, kept) == [(1, 1, 0)]
    assert ranked(np.zeros((2, 2)), np.ones((2, 2), dtype=bool)) == []


def test_it_begins_as_taste(backbone, encoder, data) -> None:
    generator = Preferred(Settings(**{**SMALL, "max_steps": 1, "learning_rate": 1e-30}), backbone, encoder)
    generator.fit(data)
    names = Settings.model_fields.keys() & TasteSettings.model_fields.keys()
    taste = Taste(
        TasteSettings(**{name: getattr(generator.config, name) for name in names}), backbone, encoder
    )
    taste.fit(data)
    assert_same_images(list(generator.generate(REQUESTS, data)), list(taste.generate(REQUESTS, data)))


def test_what_was_learned_changes_images_and_the_backbone_not_at_all(backbone, encoder, data) -> None:
    generator = Preferred(Settings(**SMALL), backbone, encoder)
    generator.fit(data)
    assert not getattr(backbone.pipeline.unet, "peft_config", {})
    learned = list(generator.generate(REQUESTS, data))
    generator.weights = {name: torch.zeros_like(value) for name, value in generator.weights.items()}
    plain = list(generator.generate(REQUESTS, data))
    assert np.abs(pixels(learned) - pixels(plain)).mean() > 1e-3
    assert not getattr(backbone.pipeline.unet, "peft_config", {})


def test_a_backbone_in_another_precision_learns_in_float32(
    tiny_diffusion, tiny_adapter, encoder, data
) -> None:
    backbone = load_backbone(str(tiny_diffusion), str(tiny_adapter), precision="bf16")
    generator = Preferred(Settings(**SMALL), backbone, encoder)
    generator.fit(data)
    assert {value.dtype for value in generator.weights.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for name, value in generator.weights.items() if ".lora_B." in name)
    assert len(list(generator.generate(REQUESTS[:2], data))) == 2


def test_words_alone_leave_nothing_to_learn() -> None:
    with pytest.raises(ValidationError, match="image or both"):
        Settings(show="words")


class Looks:
    """demo-sd's images of one prompt under two image conditions, and what trains on them."""

    def __init__(self) -> None:
        self.backbone, self.encoder = load_backbone("demo-sd", "demo-ip-adapter"), load_encoder("demo-clip")
        self.sampling = Sampling(steps=4, sampler="dpm++2m", guidance_scale=3.0)
        reds = [Condition(n, "a red star on a white ground") for n in range(4)]
        blues = [Condition(n, "a blue star on a black ground") for n in range(4)]
        self.red, self.blue = (self.draw(each) for each in (reds, blues))
        seen = [self.encoder.images(each).mean(axis=0) for each in (self.red, self.blue)]
        self.towards_red = seen[0] - seen[1]
        self.middle = Condition(0, "a star", image_embedding=(seen[0] + seen[1]) / 2)

    def draw(self, conditions: list[Condition]) -> list:
        return list(self.backbone.generate(conditions, self.sampling))

    def pairs(self, swapped: set[int]) -> list[Pair]:
        red, blue = (self.backbone.encode_images(each).split(1) for each in (self.red, self.blue))
        both = zip(red, blue, strict=True)
        found = [Pair("u", f"i{n}", 0, self.middle, *latents) for n, latents in enumerate(both)]
        return [
            replace(pair, preferred=pair.rejected, rejected=pair.preferred) if n in swapped else pair
            for n, pair in enumerate(found)
        ]

    def redness(self) -> float:
        drawn = self.draw([replace(self.middle, seed=seed) for seed in range(20, 26)])
        return float((self.encoder.images(drawn) @ self.towards_red).mean())

    def learned(self, swapped: set[int]) -> tuple[float, Curves]:
        """Return how much redder images are after training on the pairs, some of them swapped."""
        settings = Settings(max_steps=12, evaluate_every=12, requests_per_step=4, learning_rate=5e-3)
        trainer, before = Trainer(self.backbone, settings, 1.0, 3), self.redness()
        with new_lora(self.backbone, "preferred", 8, LAYERS, 3, "test") as trained:
            curves = trainer.train(trained, self.pairs(swapped), [], lambda *call: None)
            return self.redness() - before, curves


@pytest.fixture(scope="module")
def looks() -> Looks:
    return Looks()


def test_images_become_what_is_preferred_and_by_shuffled_labels_nothing(looks: Looks) -> None:
    red, blue, shuffled = (looks.learned(swapped)[0] for swapped in (set(), {0, 1, 2, 3}, {0, 3}))
    assert red > 0 > blue
    assert abs(shuffled) < min(red, -blue) / 3


def test_the_reference_is_the_start_whatever_has_been_learned(looks: Looks, monkeypatch) -> None:
    """v_old is v_theta before anything is learned, and stays so while v_theta changes."""
    seen: list[tuple[Tensor, Tensor]] = []

    def losses(predicted, old, *more):
        seen.append((predicted.detach(), old))
        return nft_losses(predicted, old, *more)

    monkeypatch.setattr("generators.preferred.train.nft_losses", losses)
    trainer, pairs = Trainer(looks.backbone, Settings(), 1.0, 3), looks.pairs(set())
    with new_lora(looks.backbone, "preferred", 8, LAYERS, 3, "test") as trained:
        trainer.losses(pairs, "noise")
        for name, value in trained.items():
            if ".lora_B." in name:
                value.data.fill_(0.05)
        trainer.losses(pairs, "noise")
    (predicted, old), (moved, old_after) = seen
    assert torch.equal(predicted, old) and torch.equal(old, old_after)
    assert (moved - predicted).abs().max() > 1e-3


def test_gradients_reach_the_low_rank_part_alone(looks: Looks) -> None:
    trainer = Trainer(looks.backbone, Settings(), 1.0, 3)
    with new_lora(looks.backbone, "preferred", 8, LAYERS, 3, "test") as trained:
        needed = {
            name for name, value in looks.backbone.pipeline.unet.named_parameters() if value.requires_grad
        }
        assert needed == set(trained) and all(".to_k_ip." in name or ".to_v_ip." in name for name in needed)
        gentle = Trainer(looks.backbone, Settings(), 0.25, 3).losses(looks.pairs(set()), "noise")
        found = trainer.losses(looks.pairs(set()), "noise")
        assert (gentle - found).abs().max() > 1e-4, "the image is as strong as it will be drawn"
        found.mean().backward()
        assert all((value.grad is not None) for value in trained.values())
        assert all(value.grad.abs().max() > 0 for name, value in trained.items() if ".lora_B." in name)


class Opinion:
    """Prefers images by one number of their embeddings."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def score(self, users, items, embeddings) -> Tensor:
        return torch.as_tensor(self.sign * embeddings[:, 0])


def test_pairs_follow_the_opinion_of_the_images(backbone, encoder, data, monkeypatch) -> None:
    """What one opinion prefers its opposite rejects."""
    generator = Preferred(Settings(**SMALL), backbone, encoder)
    Taste.fit(generator, data)

    def pairs(sign: float) -> list[Pair]:
        monkeypatch.setattr(generator, "opinion", lambda data, reward: Opinion(sign))
        return generator.pairs(REQUESTS, data, None, lambda *call: None)

    better, worse = pairs(1.0), pairs(-1.0)
    assert len(better) == len(worse) == 2 * len(REQUESTS)
    for a, b in zip(better, worse, strict=True):
        assert torch.equal(a.preferred, b.rejected) and torch.equal(a.rejected, b.preferred)


def test_somebody_has_to_prefer_something(backbone, encoder, data, monkeypatch) -> None:
    with pytest.raises(UserError, match="min_history"):
        Preferred(Settings(**{**SMALL, "min_history": 99}), backbone, encoder).fit(data)
    generator = Preferred(Settings(**{**SMALL, "keep": 0.85}), backbone, encoder)
    monkeypatch.setattr(generator, "_same_content", lambda images, own: np.zeros(len(images), dtype=bool))
    with pytest.raises(UserError, match="still shows"):
        generator.fit(data)
