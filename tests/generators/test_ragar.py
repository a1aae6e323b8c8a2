"""RAGAR: each equation worked out by hand on a small example, what trains, and the contract of every generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import LearningContract, ask
from pydantic import ValidationError
from small_settings import RAGAR as SMALL

from generators.common.training import trainable
from generators.ragar import RAGAR
from generators.ragar.calibrator import Scale
from generators.ragar.examples import ExampleBuilder, training_examples
from generators.ragar.generation import conditions, decoding_seeds, perturbations
from generators.ragar.preference import PROMPT_TOKENS, PreferenceExtractor, Shape
from generators.ragar.reflection import advantages, rank_loss
from generators.ragar.settings import Settings
from generators.ragar.train import Trainer
from recgen.core.errors import UserError
from recgen.core.seeding import seed_for
from recgen.data.requests import HISTORY
from recgen.data.types import RunData
from recgen.diffusion.conditions import Condition
from recgen.features.language import LanguageModel
from recgen.features.prompts import preference_prompt

WORDS = ("red", "blue", "dots", "bars", "star", "key")


@pytest.fixture(scope="module")
def data(data: RunData) -> RunData:
    """The shared data with captions and keywords; i0 has neither."""
    rng = np.random.default_rng(4)
    keywords = [()] + [tuple(rng.choice(WORDS, 3, replace=False)) for _ in range(1, 30)]
    features = rng.normal(size=(30, 16)).astype(np.float32)
    features[0] = np.nan
    return replace(
        data, keywords=keywords, captions=[" ".join(words) for words in keywords], caption_features=features
    )


@pytest.fixture(scope="module")
def language_model(tiny_llm) -> LanguageModel:
    return LanguageModel(str(tiny_llm))


class Likes:
    """A ranking model that likes images by one direction of their embedding, and counts its calls."""

    def __init__(self, direction: np.ndarray, data: RunData) -> None:
        self.direction, self.data, self.asked = direction, data, []

    def score(self, users, items, embeddings):
        self.asked.append(len(users))
        return torch.as_tensor(np.asarray(embeddings) @ self.direction)

    def score_all(self, users, items):
        rows = self.data.image_features[[self.data.item_rows[item] for item in items]]
        return torch.as_tensor(np.tile(rows @ self.direction, (len(users), 1)))

    def score_original(self, users, items):
        rows = self.data.image_features[[self.data.item_rows[item] for item in items]]
        return torch.as_tensor(np.nan_to_num(rows) @ self.direction)


class TestContract(LearningContract):
    kind, small = RAGAR, SMALL


class TestTokensContract(TestContract):
    small = {**SMALL, "action": "tokens"}


# Retrieval, eqs. 1-5


@pytest.mark.parametrize("source", ["history", "catalogue", "both"])
def test_the_recommender_is_asked_where_retrieval_may_look(data, source) -> None:
    direction = np.random.default_rng(0).normal(size=16)
    settings = Settings(retrieve_from=source, k=30, kappa=0.0, net_of_content=False)
    (known, stranger) = ExampleBuilder(data, settings, Likes(direction, data)).build(
        [("u1", "i3", [0, 1, 3, 7]), ("nobody", "i3", [0, 1, 7])]
    )
    seen = set(range(1, 30)) - {3}
    expected = {"history": {1, 7}, "catalogue": seen - {1, 7}, "both": seen}[source]
    assert set(known.retrieved.rows) == expected
    liking = data.image_features[known.retrieved.rows] @ direction
    assert (np.diff(liking) <= 0).all(), "the best liked first"
    assert set(stranger.retrieved.rows) == {1, 7}, "a user whom the recommender does not know: the history"


class Contents:
    """A ranking model by which users like what items are, as their texts tell, more than how they look."""

    def __init__(self, data: RunData, look: np.ndarray, praised: str = "") -> None:
        self.data, self.look, self.praised, self.asked = data, look, praised, []

    def score_all(self, users, items):
        self.asked.append(len(users))
        rows = [self.data.item_rows[item] for item in items]
        liking = 4 * self.data.text_features[rows, 0] + self.look[rows]
        praise = [[20.0 * (user == "u1" and item == self.praised) for item in items] for user in users]
        return torch.as_tensor(liking + np.array(praise))


class Whims(Contents):
    """The same, with whims that users have of their own, the later the greater."""

    def score_all(self, users, items):
        whims = [
            int(user[1:]) * np.random.default_rng(int(user[1:])).normal(size=len(items)) for user in users
        ]
        return super().score_all(users, items) + torch.as_tensor(np.stack(whims))


@pytest.fixture
def told(data) -> RunData:
    """The data with texts of three dimensions, few beside 29 items with an image."""
    return replace(data, text_features=data.text_features[:, :3])


@pytest.fixture
def looks(told) -> np.ndarray:
    """How much the images of 30 items are liked, nothing of which their texts tell."""
    seen, look = np.arange(1, 30), np.zeros(30)
    look[seen] = np.random.default_rng(2).normal(size=29)
    texts = np.c_[told.text_features[seen], np.ones(29)]
    look[seen] -= texts @ np.linalg.lstsq(texts, look[seen], rcond=None)[0]
    return look


def test_what_items_are_liked_for_does_not_rank_their_images(told, looks) -> None:
    """Net of content the best images come first, without it the best contents."""
    triples = [("u1", "i3", [1, 7]), ("u2", "i9", [])]
    reward = Contents(told, looks)
    contents = 4 * told.text_features[:, 0] + looks
    for net, liking in ((True, looks), (False, contents)):
        builder = ExampleBuilder(told, Settings(k=5, kappa=0.0, net_of_content=net), reward)
        for example, left_out in zip(builder.build(triples), (3, 9), strict=True):
            expected = [row for row in np.argsort(-liking) if row not in (0, left_out)][:5]
            assert len(set(example.retrieved.rows) & set(expected)) >= 4, (net, example.retrieved.rows)
            assert example.retrieved.rows[0] == expected[0]
    assert set(np.argsort(-looks)[:5]) != set(np.argsort(-contents)[:5])


def test_the_score_of_the_requested_item_changes_nothing(told, looks) -> None:
    settings, triples = Settings(k=4, net_of_content=True), [("u1", "i3", [1, 7])]
    plain, praised = (
        ExampleBuilder(told, settings, Contents(told, looks, item)).build(triples)[0].retrieved
        for item in ("", "i3")
    )
    assert plain.rows == praised.rows
    np.testing.assert_allclose(plain.weights, praised.weights, atol=0.01)


def test_what_is_retrieved_does_not_depend_on_who_else_is_asked_about(told, looks) -> None:
    settings, triples = (
        Settings(k=4, net_of_content=True),
        [(f"u{n}", f"i{n + 1}", [n + 2]) for n in range(5)],
    )
    together = ExampleBuilder(told, settings, Whims(told, looks)).build(triples)
    for triple, among in zip(triples, together, strict=True):
        (alone,) = ExampleBuilder(told, settings, Whims(told, looks)).build([triple])
        assert alone.retrieved.rows == among.retrieved.rows
        np.testing.assert_array_equal(alone.retrieved.weights, among.retrieved.weights)


def test_the_catalogue_is_regressed_once_for_the_same_data_reward_and_settings(
    backbone, encoder, told, looks, language_model
) -> None:
    own = {"retrieve_from": "both", "weights": "reward", "net_of_content": True}
    generator = RAGAR(Settings(**{**SMALL, **own}), backbone, encoder, language_model)
    reward = Contents(told, looks)
    generator.fit(told, reward)
    calls = len(reward.asked)
    list(generator.generate([ask("u1", "i3")], told, reward))
    assert reward.asked[calls:] == [1], "of the user of the request alone"
    other = Contents(told, -looks)
    (before,) = generator.generate([ask("u1", "i3")], told, reward)
    (after,) = generator.generate([ask("u1", "i3")], told, other)
    assert before.recipe["retrieved"] != after.recipe["retrieved"]
    assert other.asked[0] == 1 and other.asked[1] > 1


# Preference, eqs. 6-9


def extractor(language_model: LanguageModel, seed: int = 1) -> PreferenceExtractor:
    shape = Shape(16, image_tokens=2, lora_rank=2, mapper_layers=1, mapper_width=8, mapper_queries=3, heads=2)
    return PreferenceExtractor(language_model, shape, seed)


def test_the_condition_is_fused_tokens_then_keyword_features(language_model) -> None:
    keys = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    made = extractor(language_model)
    read = made(["red", "blue and dots"], keys)
    assert read.tokens.shape == (2, PROMPT_TOKENS + 3 + 5, 16)
    assert torch.equal(read.tokens[:, -5:], keys)
    attended = torch.nn.functional.multi_head_attention_forward(
        read.multimodal.transpose(0, 1), keys.transpose(0, 1), keys.transpose(0, 1), 16, 2, made.fusion.in_proj_weight,
        made.fusion.in_proj_bias, None, None, False, 0.0, made.fusion.out_proj.weight, made.fusion.out_proj.bias,
    )[0].transpose(0, 1)  # fmt: skip
    words = read.mask[0]
    torch.testing.assert_close(read.tokens[0, :-5][words], attended[0][words])
    assert not read.tokens[0, :-5][~words].any()
    whole = torch.cat([attended[0][words], keys[0]])
    torch.testing.assert_close(read.pooled()[0], whole.mean(0))
    torch.testing.assert_close(read.pooled_multimodal()[0], read.multimodal[0][words].mean(0))


def test_a_user_is_read_alike_in_any_company(language_model) -> None:
    keys = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    made = extractor(language_model)
    together = made(["red", "a much longer sentence about blue dots", "key"], keys)
    torch.testing.assert_close(made(["red"], keys[:1]).tokens, together.tokens[:1], rtol=1e-5, atol=1e-6)


def test_only_lora_image_tokens_mapper_and_attention_train(language_model) -> None:
    made = extractor(language_model)
    names = {name.split(".")[0] for name in trainable(made)}
    assert names == {"decoder", "image_tokens", "text_out", "mapper", "fusion"}
    assert all("lora_" in name for name in trainable(made) if name.startswith("decoder"))
    assert not any(parameter.requires_grad for parameter in language_model.model.parameters())
    again = trainable(extractor(language_model))
    assert all(torch.equal(value, again[name]) for name, value in trainable(made).items()), (
        "weights follow from the run's seed"
    )
    assert not torch.equal(made.image_tokens, extractor(language_model, seed=2).image_tokens)


def test_the_prompt_keeps_its_start_the_text_and_its_end() -> None:
    language_model = LanguageModel("demo-llm")
    made = extractor(language_model)
    words = [f"{word}{n}" for n in range(40) for word in WORDS]
    whole = made.prompt(words[:2], "a star")
    assert whole == preference_prompt(words[:2], "a star")
    cut = made.prompt(words, "a star")
    assert cut.startswith("Text: a star.") and words[0] in cut and words[-1] not in cut
    assert cut.endswith("this person would like best:")
    long = made.prompt(words, "star " * 500)
    unspaced = made.prompt(words, "星" * 500)
    for prompt in (whole, cut, long, unspaced):
        ids = language_model.tokenizer(prompt).input_ids
        rows, mask = made.tokenize([prompt])
        assert len(ids) <= PROMPT_TOKENS and rows[0][mask[0]].tolist() == ids, "all of it is read"
    assert long.startswith("Text: star star") and words[0] in long


# Calibrator, eq. 10


# Generation, eqs. 11-12


def test_perturbations_follow_from_request_and_step_and_come_in_mirrored_pairs() -> None:
    settings = Settings(r=2)
    both = perturbations(["a", "b"], (3,), 7, 1, settings)
    assert both.shape == (2, 4, 3)
    torch.testing.assert_close(both[:, 2:], -both[:, :2])
    assert torch.equal(perturbations(["b"], (3,), 7, 1, settings)[0], both[1])
    assert not torch.equal(perturbations(["b"], (3,), 8, 1, settings)[0], both[1])
    assert perturbations(["a"], (4, 3), 7, 1, Settings(r=3, pairs="single")).shape == (1, 3, 4, 3)


def test_samples_of_a_request_share_one_decoding_noise_or_have_their_own() -> None:
    shared = decoding_seeds(["a", "b"], 4, 7, 1, Settings())
    assert [len(set(seeds)) for seeds in shared] == [1, 1] and shared[0] != shared[1]
    own = decoding_seeds(["a", "b"], 4, 7, 1, Settings(noise="own"))
    assert len({seed for seeds in own for seed in seeds}) == 8


def test_a_preference_is_drawn_with_the_items_words_and_tokens_stand_alone() -> None:
    (one,) = conditions(torch.ones(1, 16), ["a star"], [3], Settings())
    assert (one.prompt, one.seed, one.prompt_embedding) == (
        "a star",
        3,
        None,
    ) and one.image_embedding.shape == (16,)
    (other,) = conditions(torch.ones(1, 9, 16), ["a star"], [3], Settings(action="tokens"))
    assert other.image_embedding is None and other.prompt_embedding.shape == (9, 16)


# Reflection, eqs. 13-17


def test_the_gradient_points_to_what_is_rewarded() -> None:
    goal = torch.tensor([2.0, -1.0, 0.5])
    mean = torch.zeros(64, 3, requires_grad=True)
    noise = perturbations([str(n) for n in range(64)], (3,), 0, 1, Settings(r=4))
    actions = mean.detach()[:, None] + 0.3 * noise
    rank_loss(mean, actions, advantages(actions @ goal), 0.3).backward()
    step = -mean.grad.mean(0)
    assert torch.nn.functional.cosine_similarity(step, goal, dim=0) > 0.98


# Training


def test_references_are_earlier_likes_with_what_was_liked_before_them(data) -> None:
    settings = Settings(**SMALL)
    found = training_examples(ExampleBuilder(data, settings))
    likes = data.interactions[data.interactions["like"]].sort_values("timestamp")
    users = {example.user for example in found.train}
    assert (
        users
        and not users & {example.user for example in found.held_out}
        and len(users) <= settings.train_users
    )
    for user in users:
        items = [data.item_ids[i] for i in likes.loc[likes["user"] == data.user_rows[user], "item"]]
        mine = [example for example in found.train if example.user == user]
        assert [example.item for example in mine] == items[-2:][-len(mine) :]
        for example in mine:
            before = items[: items.index(example.item)][-HISTORY:]
            assert {data.item_ids[row] for row in example.retrieved.rows} <= set(before)


def test_the_reward_is_learned_from_and_the_judge_is_not(backbone, encoder, data, language_model) -> None:
    settings = Settings(**{**SMALL, "beta": 1.0, "r": 2, "alpha": 0.0, "gamma": 0.0, "max_steps": 2})
    direction = np.random.default_rng(0).normal(size=16)
    states = []
    for judge in (Likes(direction, data), Likes(-direction, data)):
        reward = Likes(direction, data)
        generator = RAGAR(settings, backbone, encoder, language_model)
        generator.fit(data, reward, judge)
        states.append(trainable(generator.model))
        assert 4 * 2 * 2 in reward.asked, "one call scores all images of a step"
        held = generator.curves["judge, held-out users"]
        assert [step for step, _ in held] == [0, 2] and len(judge.asked) == len(held)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    # too few users to hold any out, so that every step counts
    few = Settings(**{**settings.model_dump(), "train_users": 3, "held_out_users": 1})
    balances = []
    for reward in (Likes(direction, data), Likes(-direction, data)):
        generator = RAGAR(few, backbone, encoder, language_model)
        generator.fit(data, reward, None)
        balances.append(generator.model.calibrator.balance.detach())
    assert balances[0].abs().max() > 0 and not torch.equal(*balances)


def test_training_keeps_the_best_evaluation(backbone, encoder, data, language_model) -> None:
    """A rate at which every step hurts: the weights that come out are the ones that went in."""
    settings = Settings(
        **{**SMALL, "gamma": 1.0, "learning_rate": 50.0, "max_steps": 8, "patience": 2, "evaluate_every": 1}
    )
    generator = RAGAR(settings, backbone, encoder, language_model)
    generator.fit(data)
    losses = generator.curves["loss, held-out users"]
    assert len(losses) == 3, "two evaluations without a better one end it"
    fresh = trainable(generator._model(generator.model.scale, data.run_seed))
    assert all(torch.equal(value, fresh[name]) for name, value in trainable(generator.model).items())


def test_the_clamped_reward_is_against_the_items_image_and_the_one_of_its_words(
    backbone, encoder, data, language_model
) -> None:
    """Eq. 14 with the recommender's own scores of both; without the clamp they cancel, and no image is drawn for them."""
    likes = Likes(np.random.default_rng(0).normal(size=16), data)
    settings = Settings(**{**SMALL, "beta": 1.0, "clamp": True})
    examples = training_examples(ExampleBuilder(data, settings)).train[:3]
    generator = RAGAR(settings, backbone, encoder, language_model)
    model = generator._model(Scale.of(data.image_features, settings.directions), 0)
    trainer = Trainer(model, encoder, likes, None, settings, 0)
    scores = torch.linspace(-40, 40, 9, dtype=torch.float32).expand(3, 9)
    found = trainer._rewards(examples, scores)
    seeds = [seed_for(0, "ragar keyword picture", example.user, example.item) for example in examples]
    words = [Condition(seed, example.text) for seed, example in zip(seeds, examples, strict=True)]
    key = encoder.images(list(backbone.generate(words, settings.train_decode))) @ likes.direction
    own = likes.score_original(None, [example.item for example in examples]).numpy()
    expected = np.maximum(scores - key[:, None], 0) + np.maximum(scores - own[:, None], 0) + settings.delta
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert (np.abs(key) > 0.1).all() and (np.abs(own) > 0.1).all() and likes.asked == [3]
    trainer._rewards(examples, scores)
    assert likes.asked == [3], "the images of the words are drawn once"
    trainer.settings, trainer._key_scores = Settings(**SMALL), {}
    trainer._rewards(examples, scores)
    assert likes.asked == [3]


def test_recipe_says_what_was_retrieved(backbone, encoder, data, language_model) -> None:
    generator = RAGAR(Settings(**{**SMALL, "k": 2}), backbone, encoder, language_model)
    generator.fit(data)
    (creative,) = generator.generate([ask("u1", "i3", ("i0", "i1", "i2", "i4"))], data)
    assert set(creative.recipe["retrieved"]) <= {"i1", "i2", "i4"} and len(creative.recipe["retrieved"]) == 2
    assert sum(creative.recipe["weights"]) == pytest.approx(1, abs=1e-3)


def test_mistakes_are_told(backbone, encoder, data, language_model, tmp_path) -> None:
    with pytest.raises(UserError, match=r"recgen\.llm"):
        RAGAR(Settings(**SMALL), backbone, encoder).fit(data)
    with pytest.raises(UserError, match="min_history"):
        RAGAR(Settings(**{**SMALL, "min_history": 99}), backbone, encoder, language_model).fit(data)
    with pytest.raises(ValueError, match="needs a reward"):
        RAGAR(Settings(**{**SMALL, "beta": 1.0}), backbone, encoder, language_model).fit(data)
    with pytest.raises(UserError, match="no model.safetensors"):
        RAGAR(Settings(**SMALL), backbone, encoder, language_model).load(tmp_path)
    with pytest.raises(ValidationError, match="multiple of heads"):
        Settings(mapper_width=10, heads=4)
    generator = RAGAR(Settings(**SMALL), backbone, encoder, language_model)
    generator.fit(data)
    generator.save(tmp_path)
    with pytest.raises(UserError, match="other sizes"):
        RAGAR(Settings(**{**SMALL, "lora_rank": 3}), backbone, encoder, language_model).load(tmp_path)


def test_retrieval_by_reward_needs_one_in_training_and_in_drawing(
    backbone, encoder, data, language_model
) -> None:
    settings = Settings(**{**SMALL, "retrieve_from": "both", "weights": "reward"})
    generator = RAGAR(settings, backbone, encoder, language_model)
    with pytest.raises(ValueError, match="needs a reward"):
        generator.fit(data)
    likes = Likes(np.random.default_rng(0).normal(size=16), data)
    generator.fit(data, likes)
    with pytest.raises(ValueError, match="needs a reward"):
        list(generator.generate([ask("u1", "i3")], data))
    (creative,) = generator.generate([ask("u1", "i3")], data, likes)
    best = int(np.nanargmax(data.image_features @ likes.direction))
    assert data.item_ids[best] in creative.recipe["retrieved"] or best == 3
