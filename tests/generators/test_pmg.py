"""PMG: its loss and its choice of weights worked out by hand, what trains, and the contract of every generator."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contract import REQUESTS, LearningContract, ask, pixels
from diffusers import DDPMScheduler
from PIL import Image
from pydantic import ValidationError
from small_settings import PMG as SMALL

from generators.common.denoising import denoising_losses, denoising_target, held_out_loss
from generators.common.training import trainable
from generators.pmg import PMG
from generators.pmg.choice import best, likeness, mean_direction, scores
from generators.pmg.model import PreferenceEncoder, blend
from generators.pmg.settings import Settings
from generators.pmg.train import Example, Trainer, keywords_of, training_examples
from recgen.core.errors import UserError
from recgen.data.types import RunData
from recgen.features.language import LanguageModel

WORDS = ("red", "blue", "dots", "bars", "star", "key")


@pytest.fixture(scope="module")
def data(data: RunData, tmp_path_factory) -> RunData:
    """The shared data with images on disk and keywords; i0 has neither."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(4)
    for item in range(1, 30):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{item}.png")
    keywords = [()] + [tuple(rng.choice(WORDS, 3, replace=False)) for _ in range(1, 30)]
    return replace(data, images=[None] + [folder / f"{n}.png" for n in range(1, 30)], keywords=keywords)


@pytest.fixture(scope="module")
def language_model(tiny_llm) -> LanguageModel:
    return LanguageModel(str(tiny_llm))


class TestContract(LearningContract):
    kind, small = PMG, SMALL


def fitted(backbone, encoder, data, language_model, **changes) -> PMG:
    generator = PMG(Settings(**{**SMALL, **changes}), backbone, encoder, language_model)
    generator.fit(data)
    return generator


def test_the_score_known_answer() -> None:
    to_preference, to_target = np.array([0.5, 0.25, -0.1]), np.array([0.2, 0.8, 1.0])
    z = scores(to_preference, to_target, 0.25)
    np.testing.assert_allclose(
        z[:2], [0.25 * np.log(0.5) + 0.75 * np.log(0.2), 0.25 * np.log(0.25) + 0.75 * np.log(0.8)]
    )
    assert best(z) == 1 and z[2] < -3, "an image that is nothing like the preference is out of question"
    assert (
        best(scores(to_preference, to_target, 1.0)) == 0 and best(scores(to_preference, to_target, 0.0)) == 2
    )


def test_what_is_not_known_does_not_decide() -> None:
    known, unknown = np.array([0.2, 0.4]), np.full(2, np.nan)
    assert best(scores(unknown, known, 0.9)) == best(scores(known, unknown, 0.1)) == 1
    assert best(scores(unknown, unknown, 0.5)) == 0
    assert best([0.30001, 0.30002]) == 0, "equal but for rounding: the first"


def test_likeness_and_mean_direction_known_answers() -> None:
    images = np.array([[3.0, 4.0], [0.0, -2.0]], dtype=np.float32)
    np.testing.assert_allclose(likeness(images, np.array([0.0, 5.0])), [0.8, -1.0])
    assert (
        np.isnan(likeness(images, np.full(2, np.nan))).all() and np.isnan(likeness(images, np.zeros(2))).all()
    )
    np.testing.assert_allclose(mean_direction(images), [0.3, -0.1], rtol=1e-6)
    assert np.isnan(mean_direction(images[:0])).all()


def test_blend_weighs_both_sides() -> None:
    """Nothing is 1, 2, 3: the preference's own token starts from the last of these, its prompt's tokens from theirs."""
    nothing = torch.tensor([1.0, 2.0, 3.0])[:, None].expand(3, 4)
    preference, target = torch.full((2, 4, 4), 7.0), torch.full((2, 3, 4), 5.0)
    condition = blend(preference, target, nothing, torch.tensor([0.0, 0.25]))
    assert condition.shape == (2, 7, 4)
    assert condition[0, :, 1].tolist() == [3.0, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0]
    assert condition[1, :, 2].tolist() == [4.0, 2.5, 3.25, 4.0, 4.0, 4.25, 4.5]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_denoising_target_and_loss_known_answers(kind: str) -> None:
    noise_scheduler = DDPMScheduler(1000, beta_schedule="scaled_linear", prediction_type=kind)
    clean, noise, timesteps = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0, 400, 999])
    a = noise_scheduler.alphas_cumprod[timesteps].sqrt()[:, None, None, None]
    s = (1 - noise_scheduler.alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
    target = {"epsilon": noise, "v_prediction": a * noise - s * clean, "sample": clean}[kind]
    torch.testing.assert_close(
        denoising_target(noise_scheduler, clean, noise, timesteps), target, atol=1e-5, rtol=1e-5
    )

    def predict(noisy, at, condition, pooled):
        torch.testing.assert_close(noisy, a * clean + s * noise)
        assert at is timesteps
        return target + condition

    backbone = SimpleNamespace(noise_scheduler=noise_scheduler, predict=predict)
    off = torch.tensor([1.0, -2.0, 0.5])[:, None, None, None]
    losses = denoising_losses(backbone, off, clean, noise, timesteps)
    torch.testing.assert_close(losses, torch.tensor([1.0, 4.0, 0.25]), atol=1e-4, rtol=1e-4)


def test_the_backbones_prediction_is_the_pipelines(backbone) -> None:
    """Under an image condition of scale 0, whatever it was before, and with gradients to the condition alone."""
    noisy, timesteps = torch.randn(2, 4, 16, 16), torch.tensor([10, 900])
    condition = backbone.embed_prompts(["a", "b"]).clone().requires_grad_()
    backbone.pipeline.set_ip_adapter_scale(1.0)
    predicted = backbone.predict(noisy, timesteps, condition)
    backbone.pipeline.set_ip_adapter_scale(0.0)
    images = {"image_embeds": [torch.randn(2, 1, 16)]}
    expected = backbone.pipeline.unet(noisy, timesteps, condition, added_cond_kwargs=images).sample
    torch.testing.assert_close(predicted, expected)
    predicted.sum().backward()
    assert condition.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in backbone.pipeline.unet.parameters())


def test_latents_decode_to_the_image_they_were_made_of(backbone) -> None:
    image = Image.new("RGB", (50, 32), (250, 10, 120))
    latents = backbone.encode_images([image, image.crop((9, 0, 41, 32))])
    assert latents.shape == (2, 4, 16, 16) and torch.equal(latents[0], latents[1]), (
        "the centre, whatever lies around it"
    )
    vae = backbone.pipeline.vae
    pixels_ = (torch.tensor([250, 10, 120]) / 127.5 - 1).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    mean = vae.encode(pixels_).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(latents[:1], mean, atol=1e-4, rtol=1e-4)


def test_examples_come_before_their_reference_and_held_out_users_are_not_learned_from(data) -> None:
    settings = Settings(**SMALL)
    train, held = training_examples(data, settings)
    assert len(held) == 2 and not {example.user for example in held} & {example.user for example in train}
    likes = data.interactions[data.interactions["like"]].sort_values("timestamp")
    for example in [*train, *held]:
        own = [data.item_ids[row] for row in likes.loc[likes["user"] == data.user_rows[example.user], "item"]]
        at = own.index(example.item)
        assert at >= 3 and example.item != "i0" and at >= len(own) - 4
        assert example.text == data.texts[data.item_rows[example.item]]
        assert example.keywords == keywords_of(data, [data.item_rows[token] for token in own[:at]], settings)


def test_the_condition_is_soft_tokens_then_the_keywords_own(backbone, language_model) -> None:
    preference_encoder = PreferenceEncoder(language_model, backbone, Settings(**SMALL), 5)
    own, nothing = backbone.embed_prompts(["red, dots", ""]), backbone.embed_prompts([""])[0]
    start = preference_encoder.preference([("red", "dots"), ()])
    assert start.shape == (2, 3 + own.shape[1], 16)
    torch.testing.assert_close(start, torch.cat([nothing[-1:].expand(2, 3, -1), own], 1))
    torch.nn.init.normal_(preference_encoder.extractor.mapper.out.weight)
    both = preference_encoder.preference([("red", "dots"), ()])
    torch.testing.assert_close(both[:, 3:], own)
    assert (both[0, :3] - both[1, :3]).abs().max() > 1e-4, "the soft tokens are the user's"
    torch.testing.assert_close(
        preference_encoder.preference([("red", "dots")]), both[:1], atol=1e-5, rtol=1e-4
    )
    whole = preference_encoder([("red", "dots"), ()], ["a", "b"], [0.3, 0.7])
    expected = blend(both, backbone.embed_prompts(["a", "b"]), nothing, torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(whole, expected)


def test_lora_tokens_and_mapper_train_and_nothing_else(backbone, encoder, data, language_model) -> None:
    generator = PMG(Settings(**SMALL), backbone, encoder, language_model)
    generator.preference_encoder = before = generator._new_encoder(data.run_seed)
    names = trainable(before)
    parts = {name.split(".")[1] for name in names}
    assert parts == {"decoder", "image_tokens", "mapper"}
    assert all("lora" in name for name in names if name.startswith("extractor.decoder"))
    frozen = {name: value.clone() for name, value in before.named_parameters() if name not in names}
    start = {name: value.detach().clone() for name, value in names.items()}
    train, _ = training_examples(data, Settings(**SMALL))
    Trainer(before, data, Settings(**SMALL)).train(train, [], lambda *_: None)
    assert all(
        torch.equal(value, frozen[name]) for name, value in before.named_parameters() if name in frozen
    )
    moved = {name for name, value in trainable(before).items() if not torch.equal(value, start[name])}
    assert {name.split(".")[1] for name in moved} == parts


def test_training_lowers_the_loss_of_what_it_sees(backbone, encoder, data, language_model) -> None:
    """One example under the same noise over and over."""
    settings = Settings(**{**SMALL, "learning_rate": 3e-2})
    trainer = Trainer(PreferenceEncoder(language_model, backbone, settings, 5), data, settings)
    example = Example("u1", "i3", "a", ("red",))
    trainer._encode([example])
    optimiser = torch.optim.AdamW(trainable(trainer.preference_encoder).values(), lr=settings.learning_rate)
    losses = []
    for _ in range(30):
        loss = trainer._losses([example], "same").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-4


def test_an_examples_noise_is_its_own(backbone, data, language_model) -> None:
    settings = Settings(**SMALL)
    trainer = Trainer(PreferenceEncoder(language_model, backbone, settings, 5), data, settings)
    one, other = Example("u1", "i3", "a", ("red",)), Example("u2", "i4", "b", ("blue",))
    trainer._encode([one, other])
    with torch.no_grad():
        together = trainer._losses([one, other], "noise 1")
        torch.testing.assert_close(trainer._losses([other], "noise 1"), together[1:], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(trainer._losses([other], "noise 2"), together[1:])


def test_curves_and_early_stopping_by_held_out_users(backbone, encoder, data, language_model) -> None:
    generator = fitted(backbone, encoder, data, language_model, max_steps=40, patience=1, learning_rate=0.5)
    seen, held = (generator.curves[f"denoising loss, {who}"] for who in ("training", "held-out users"))
    assert [step for step, _ in held] == list(range(0, 2 * len(held), 2)) and len(seen) == held[-1][0] < 40
    trainer = Trainer(generator.preference_encoder, data, generator.config)
    found = training_examples(data, generator.config)[1]
    trainer._encode(found)
    value = held_out_loss(
        lambda stage, some: trainer._losses(some, stage), found, "pmg held out", backbone.batcher
    )
    assert value == pytest.approx(min(value for _, value in held), rel=1e-4)
    assert sorted(generator.learned["held_out"]) == sorted(example.user for example in found)


def test_the_recipe_says_which_weight_won_and_the_image_is_that_one(
    backbone, encoder, data, language_model, tmp_path
) -> None:
    generator = fitted(backbone, encoder, data, language_model)
    generator.save(tmp_path)
    request = ask("u1", "i7", ("i1", "i3", "i5", "i8"))
    (creative,) = generator.generate([request], data)
    alone = {}
    for weight in (0.3, 0.7):
        single = PMG(Settings(**{**SMALL, "weights": (weight,)}), backbone, encoder, language_model)
        single.load(tmp_path)
        (alone[weight],) = single.generate([request], data)
    picked = alone[creative.recipe["weight"]]
    np.testing.assert_allclose(pixels([creative]), pixels([picked]), atol=1.01 / 255)
    words = encoder.texts([", ".join(creative.recipe["keywords"]), data.texts[7]])
    z = {w: _z(encoder, made.image, words) for w, made in alone.items()}
    assert creative.recipe["weight"] == max(z, key=z.get) and creative.recipe["prompt"] == data.texts[7]


def _z(encoder, image, words) -> float:
    embedding = encoder.images([image])
    return scores(likeness(embedding, words[0]), likeness(embedding, words[1]), 0.5)[0].item()


def test_likeness_to_the_liked_images_can_choose_instead(backbone, encoder, data, language_model) -> None:
    generator = fitted(backbone, encoder, data, language_model, preference="history", max_steps=1)
    generator_preferences = generator._preferences([[0, 3, 5], [0]], [(), ()], data)
    unit = data.image_features[[3, 5]] / np.linalg.norm(data.image_features[[3, 5]], axis=1, keepdims=True)
    np.testing.assert_allclose(generator_preferences[0], unit.mean(axis=0), rtol=1e-5)
    assert np.isnan(generator_preferences[1]).all(), "i0 has no image"
    (creative,) = generator.generate([ask("u1", "i7", ("i3", "i5"))], data)
    assert creative.recipe["likeness"]["preference"] is not None


def test_without_a_language_model_or_examples_it_says_so(
    backbone, encoder, data, language_model, tmp_path
) -> None:
    with pytest.raises(UserError, match=r"recgen\.llm"):
        PMG(Settings(**SMALL), backbone, encoder).fit(data)
    with pytest.raises(UserError, match="min_history"):
        fitted(backbone, encoder, data, language_model, min_history=30)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        PMG(Settings(**SMALL), backbone, encoder, language_model).load(tmp_path)
    fitted(backbone, encoder, data, language_model, max_steps=1).save(tmp_path)
    with pytest.raises(UserError, match="other sizes"):
        PMG(Settings(**{**SMALL, "mapper_queries": 5}), backbone, encoder, language_model).load(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"weights": ()}, {"weights": (1.5,)}, {"alpha": 2}, {"mapper_width": 9}, {"preference": "x"}]
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_requests_of_more_than_a_block(backbone, encoder, data, language_model, monkeypatch) -> None:
    generator = fitted(backbone, encoder, data, language_model, max_steps=1)
    whole = pixels(list(generator.generate(REQUESTS[:5], data)))
    monkeypatch.setattr("generators.pmg.generator._BATCH", 2)
    np.testing.assert_allclose(pixels(list(generator.generate(REQUESTS[:5], data))), whole, atol=1.01 / 255)
