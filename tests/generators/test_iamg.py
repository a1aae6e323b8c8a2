"""I-AM-G: what trains and on what, what each ablation leaves out, and the contract of every generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import REQUESTS, GeneratorContract, ask, pixels
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from small_settings import DECODE
from small_settings import IAMG as SMALL

from generators.common.denoising import held_out_loss
from generators.iamg import IAMG
from generators.iamg.conditions import ContextBuilder, ItemContext
from generators.iamg.ira import InterestRetrieveAttention
from generators.iamg.rewrite import Rewritten
from generators.iamg.settings import Settings
from generators.iamg.train import Example, Trainer, training_examples
from recgen.core.errors import UserError
from recgen.data.types import RunData
from recgen.diffusion.backbone import load_backbone

WORDS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def data(data: RunData, tmp_path_factory) -> RunData:
    """The shared data with images on disk, tags and foregrounds; i0 has none of them."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(4)
    for item in range(1, 30):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{item}.png")
    tags = [()] + [tuple(rng.choice(WORDS, 2, replace=False)) for _ in range(1, 30)]
    foregrounds = rng.normal(1.0, 2.0, (30, 16)).astype(np.float32)
    foregrounds[0] = np.nan
    images = [None] + [folder / f"{n}.png" for n in range(1, 30)]
    texts = [f"t {n % 3}" for n in range(30)]
    return replace(data, texts=texts, images=images, tags=tags, foreground_features=foregrounds)


class TestContract(GeneratorContract):
    @staticmethod
    def make(backbone, encoder, **changes) -> IAMG:
        return IAMG(Settings(**{**SMALL, **changes}), backbone, encoder)

    @staticmethod
    def batch(size: int) -> dict:
        return {"decode": {**DECODE, "batch_size": size}}


def fitted(backbone, encoder, data, **changes) -> IAMG:
    generator = IAMG(Settings(**{**SMALL, **changes}), backbone, encoder)
    generator.fit(data)
    return generator


def test_training_moves_the_image_attention_and_ira_and_nothing_else(backbone, encoder, data) -> None:
    pipeline = backbone.pipeline
    modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder, encoder.model)
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    generator = IAMG(Settings(**SMALL), backbone, encoder)
    generator._prepare()
    builder, settings = ContextBuilder(backbone, encoder, data, generator.config), generator.config
    trainer = Trainer(generator.adapter, generator.ira, builder, settings)
    start = {name: value.detach().clone() for name, value in trainer.trained().items()}
    trainer.train(training_examples(data, settings)[0], [], lambda *_: None)
    moved = {name for name, value in trainer.trained().items() if not torch.equal(value, start[name])}
    assert moved == set(start) and {name.split(".")[0] for name in moved} == {"adapter", "ira"}
    crosses = sum("attn2" in name for name in pipeline.unet.attn_processors)
    assert len(moved) == 2 * crosses + 3
    for module, old in zip(modules, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in module.state_dict().items())


def test_training_lowers_the_loss_of_what_it_sees(backbone, encoder, data) -> None:
    """One example under the same noise over and over."""
    generator = IAMG(Settings(**SMALL), backbone, encoder)
    generator._prepare()
    trainer = Trainer(
        generator.adapter,
        generator.ira,
        ContextBuilder(backbone, encoder, data, generator.config),
        generator.config,
    )
    example = Example("u1", 3, (1, 5, 7))
    trainer.prepare([example])
    optimiser = torch.optim.AdamW(trainer.trained().values(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = trainer.losses([example], "same").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1e-3


def test_training_keeps_the_best_evaluation(backbone, encoder, data) -> None:
    """At a rate that soon does harm: the held-out loss of what comes out is the lowest that was seen, not the last."""
    generator = fitted(backbone, encoder, data, learning_rate=50.0, max_steps=9, evaluate_every=1, patience=2)
    losses = [loss for _, loss in generator.curves["denoising loss, held-out users"]]
    assert len(losses) < 10, "two evaluations without a better one end it"
    builder = ContextBuilder(backbone, encoder, data, generator.config)
    trainer = Trainer(generator.adapter, generator.ira, builder, generator.config)
    held_out = training_examples(data, generator.config)[1]
    trainer.prepare(held_out)
    value = held_out_loss(
        lambda stage, some: trainer.losses(some, stage), held_out, "iamg held out", backbone.batcher
    )
    assert value == pytest.approx(np.nanmin(losses), rel=1e-5)


def test_contents_of_other_items_are_kept_out_of_the_rewrite(backbone, encoder, data) -> None:
    """Unless asked for as in the paper."""
    named = replace(data, texts=[f"t {' '.join(tags[:1])}" for tags in data.tags])
    for kept in (False, True):
        settings = Settings(**{**SMALL, "tags": 9, "content_tags": kept})
        builder = ContextBuilder(backbone, encoder, named, settings)
        interest = set(builder.rewrite(3, [1, 5]).interest)
        own = {tag for row in (1, 5) for tag in named.tags[row][0 if kept else 1 :]}
        assert interest == own - set(named.tags[3])


def test_a_dropped_example_has_no_condition_at_all(backbone, encoder, data) -> None:
    """Eq. 15: the loss is then the same whatever the item's tags, foreground and neighbours are."""
    generator = IAMG(Settings(**SMALL), backbone, encoder)
    generator._prepare()
    example, losses = Example("u1", 3, (1, 5, 7)), []
    for other in (
        data,
        replace(data, tags=data.tags[::-1], foreground_features=data.foreground_features[::-1].copy()),
    ):
        trainer = Trainer(
            generator.adapter,
            generator.ira,
            ContextBuilder(backbone, encoder, other, generator.config),
            generator.config,
        )
        trainer.prepare([example])
        with torch.no_grad():
            losses.append([trainer.losses([example], "one", drop).item() for drop in (0.0, 1.0)])
    assert losses[0][0] != losses[1][0] and losses[0][1] == losses[1][1] != losses[0][0]


def test_how_many_examples_are_dropped(backbone, encoder, data) -> None:
    from generators.iamg.train import _uniform

    drawn = np.array([_uniform(5, f"step {n} drop", ("u1", "i3")) for n in range(2000)])
    assert abs((drawn < 0.05).mean() - 0.05) < 0.02 and abs(drawn.mean() - 0.5) < 0.03


def test_examples_come_before_their_reference_and_held_out_users_are_not_learned_from(data) -> None:
    train, held = training_examples(data, Settings(**SMALL))
    assert len(held) == 2 and not {example.user for example in held} & {example.user for example in train}
    likes = data.interactions[data.interactions["like"]].sort_values("timestamp")
    for example in [*train, *held]:
        own = likes.loc[likes["user"] == data.user_rows[example.user], "item"].tolist()
        at = own.index(example.item)
        assert at >= 3 and example.item != 0 and at >= len(own) - 4 and example.history == tuple(own[:at])


def test_strengths_of_drawing_are_not_read_by_fit(backbone, encoder, data, tmp_path) -> None:
    fitted(backbone, encoder, data, max_steps=1).save(tmp_path / "a")
    fitted(
        backbone, encoder, data, max_steps=1, lambda1=3.0, lambda2=0.7, decode={**DECODE, "steps": 3}
    ).save(tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    fitted(backbone, encoder, data, max_steps=1, train_lambda2=0.7).save(tmp_path / "c")
    assert (tmp_path / "a/model.safetensors").read_bytes() != (tmp_path / "c/model.safetensors").read_bytes()
    assert IAMG.Config.sampling_fields == {"decode", "lambda1", "lambda2"}


def test_what_each_ablation_leaves_out(backbone, encoder, data, tmp_path) -> None:
    request = ask("u1", "i7", ("i1", "i3", "i5", "i8"))
    whole = fitted(backbone, encoder, data, max_steps=1)
    (creative,) = whole.generate([request], data)
    assert creative.recipe["interest"] and creative.recipe["tags"] and len(creative.recipe["texts"]) == 3
    assert creative.recipe["images"][0] == "i7", "the item is in its own pool"
    plain = fitted(backbone, encoder, data, max_steps=1, rewrite=False)
    assert next(plain.generate([request], data)).recipe["prompt"] == data.texts[7]
    without = fitted(backbone, encoder, data, max_steps=1, ira=False)
    without.save(tmp_path)
    assert without.ira is None and next(without.generate([request], data)).recipe["images"] == []
    assert not any(name.startswith("ira") for name in load_file(tmp_path / "model.safetensors"))
    with pytest.raises(UserError, match="other sizes"):
        IAMG(Settings(**SMALL), backbone, encoder).load(tmp_path)
    contexts = [ItemContext(7, Rewritten("a")), ItemContext(0, Rewritten("a"))]
    settings = [Settings(**{**SMALL, "foreground": on}) for on in (True, False)]
    cut, full = (ContextBuilder(backbone, encoder, data, each).foregrounds(contexts) for each in settings)
    np.testing.assert_array_equal(cut[0], data.foreground_features[7])
    np.testing.assert_array_equal(full[0], data.image_features[7])
    assert not cut[1].any() and not full[1].any(), "i0 has no image"


def test_an_item_without_an_image_has_no_interest(backbone, encoder, data) -> None:
    builder = ContextBuilder(backbone, encoder, data, Settings(**SMALL))
    contexts = builder.build([(0, (1, 2)), (4, (1, 2))])
    assert contexts[0].images == () and len(contexts[0].texts) == len(contexts[1].images) == 3
    interest = builder.interest(contexts, InterestRetrieveAttention(16, 2))
    assert not interest[0].any() and interest[1].any() and interest.shape == (2, 16, 16)


def test_the_interest_is_ira_over_the_retrieved(backbone, encoder, data) -> None:
    """Phi are the ends of the texts' tokens, Psi the adapter's tokens of whole images."""
    builder, ira = (
        ContextBuilder(backbone, encoder, data, Settings(**SMALL)),
        InterestRetrieveAttention(16, 2),
    )
    (context,) = builder.build([(4, (1, 2, 9))])
    known = [data.texts[row] for row in context.texts]
    texts = torch.stack(
        [backbone.embed_prompts([text])[0, backbone.count_tokens(text) - 1] for text in known]
    )
    images = backbone.image_tokens(torch.from_numpy(data.image_features[list(context.images)])).flatten(0, 1)
    expected = ira(backbone.embed_prompts([context.rewritten.text]), texts[None], images[None])
    torch.testing.assert_close(builder.interest([context], ira), expected)


def test_only_the_latest_likes_are_read(backbone, encoder, data) -> None:
    builder = ContextBuilder(backbone, encoder, data, Settings(**SMALL))
    assert (
        builder.rewrite(7, (9, 12, 1, 3, 5, 8))
        == builder.rewrite(7, (1, 3, 5, 8))
        != builder.rewrite(7, (9, 12, 1, 3))
    )
    none = ContextBuilder(backbone, encoder, data, Settings(**{**SMALL, "history": 0}))
    assert none.rewrite(7, (1, 3, 5)).interest == () and none.rewrite(7, (1,)).tags == data.tags[7]


def test_without_an_adapter_or_examples_it_says_so(backbone, encoder, data, tiny_diffusion, tmp_path) -> None:
    with pytest.raises(UserError, match=r"recgen\.ip_adapter"):
        IAMG(Settings(**SMALL), load_backbone(str(tiny_diffusion)), encoder).fit(data)
    with pytest.raises(UserError, match="min_history"):
        fitted(backbone, encoder, data, min_history=30)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        IAMG(Settings(**SMALL), backbone, encoder).load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": ("plain",)},
        {"template": ("{tags} {interest}",)},
        {"condition_drop": 1},
        {"lambda1": -1},
        {"history": 21},
    ],
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_recipes_do_not_depend_on_the_block(backbone, encoder, data) -> None:
    generator = fitted(backbone, encoder, data, max_steps=1, decode={**DECODE, "batch_size": 2})
    one = fitted(backbone, encoder, data, max_steps=1, decode={**DECODE, "batch_size": 7})
    made = [list(which.generate(REQUESTS[:5], data)) for which in (generator, one)]
    strip = [[{k: v for k, v in c.recipe.items() if k != "decode"} for c in which] for which in made]
    assert strip[0] == strip[1]
    np.testing.assert_allclose(pixels(made[0]), pixels(made[1]), atol=1.01 / 255)
