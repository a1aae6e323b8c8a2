"""taste: an item's image in the style that the recommender and the user's own likes say this user prefers.

Six steps, each in a module of its own:

1. *asked*: the reward's scores of the catalogue for a user, weighed with what the user's own likes and dislikes say
   (`asked`, `likes`, eqs. 3-5);
2. *trusted*: how far each of the two is believed is fitted on encounters that the reward was not trained on (`trust`, eq. 6);
3. *net of content*: what a ridge regression on the items' texts does not explain (`ridge`, eqs. 1-2);
4. *everybody and this user*: the mean over users, and what a user's scores are beyond it;
5. *shown*: words of style, an image embedding in the style of the items that score best, or both (`shown`, eq. 7);
6. *kept*: the strengths are those of the best opinion under which the item remains recognisable (`kept`).

No diffusion model is trained. One image is drawn per request, or several: then the one of the best opinion by (6) is taken that
still shows the item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.base import Generator, Progress, silent
from generators.common.candidates import candidate_seeds, draw_best
from generators.common.refinement import Score, refine
from generators.common.ridge import Ridge
from generators.common.sampling import Drawing, draw
from generators.taste import learned
from generators.taste.asked import Asked, Opinion, Sources
from generators.taste.catalogue import Catalogue, Group, sampled_rows, tags, word_groups
from generators.taste.corrected import Corrector, learn
from generators.taste.kept import Strength, Tried, around, candidates, choose, full
from generators.taste.learned import Learned
from generators.taste.settings import Settings
from generators.taste.shown import Answer, ShownImage, best_words, prompt, top_image, unnamed
from generators.taste.trials import learned_pairs, training_likes
from recgen.core.errors import UserError
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling
from recgen.recommender.reward import RewardModel


class Taste(Generator):
    """Draws items in the style that their users prefer, by the recommender and by everybody's likes."""

    name = "taste"
    Config = Settings
    config: Settings

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._learned: Learned | None = None
        self._asked: Asked | None = None
        self.groups: list[Group] = word_groups(self.config, self.encoder)

    @property
    def learned(self) -> Learned:
        """What `fit` found out."""
        if self._learned is None:
            raise RuntimeError("taste has to be fitted or loaded first")
        return self._learned

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn how far each source is believed, and the strengths; without `reward`, users' own likes are all there is."""
        rows = sampled_rows(data, self.config.catalogue)
        catalogue = Catalogue.of(data, rows, self.groups, self.encoder)
        progress("taste: asking", 0, 1)
        belief, shared = learned.beliefs(data, catalogue, reward)
        strength = full(self.config.show, self._style_groups, self.config.decode)
        self._learned = Learned(rows, belief, shared, strength)
        self._asked = Asked(Sources.of(data, catalogue, reward, belief.basis, belief.population), belief)
        progress("taste: asking", 1, 1)
        if self.config.keep is not None:
            self._learned = replace(self._learned, **self._strengths(data, reward, progress))
        if self.config.refine.learn and self._learned.strength.scale > 0:
            pairs = learned_pairs(data, self.learned.rows, self.config.refine.learn)
            self.learn_corrections(pairs, data, reward, progress)

    def learn_corrections(
        self, pairs: Sequence[Request], data: RunData, reward: RewardModel | None, progress: Progress = silent
    ) -> None:
        """Teach a network to correct image embeddings on pairs of a user and an item; see `generators.taste.corrected`."""
        if not pairs:
            return
        strength = self.learned.strength
        answers = self.answers(pairs, data, reward)
        conditions = [
            self.drawing(pair, answer, data, strength)[0] for pair, answer in zip(pairs, answers, strict=True)
        ]
        known = self._known(pairs, answers, conditions, data)
        corrector = Corrector.of(known, self.encoder.dim, data.run_seed)
        texts, sampling = self._texts(pairs, data), strength.sampling(self.config.decode)
        learn(
            corrector, self.backbone, self.encoder, conditions, known, texts,
            lambda part: self._score(pairs[part], data, reward), sampling, self.config.refine, progress,
        )  # fmt: skip
        self._learned = replace(self.learned, corrector=corrector)

    def _known(
        self,
        requests: Sequence[Request],
        answers: Sequence[Answer],
        conditions: Sequence[Condition],
        data: RunData,
    ) -> torch.Tensor:
        """Return what (9) reads of requests, float32 ``[B, P]``."""
        assert self._asked is not None
        users = [data.user_rows.get(request.user_id, -1) for request in requests]
        parts = (
            self._asked.sources.coefficients(
                users, [data.item_rows[request.item_id] for request in requests]
            ),
            [answer.image.style for answer in answers],
            self._texts(requests, data).nan_to_num(),
            [each.image_embedding for each in conditions],
        )
        return torch.from_numpy(np.hstack([np.asarray(part, dtype=np.float32) for part in parts]))

    def _texts(self, requests: Sequence[Request], data: RunData) -> torch.Tensor:
        return torch.from_numpy(data.text_features[[data.item_rows[request.item_id] for request in requests]])

    @property
    def _style_groups(self) -> int:
        return sum(group.style for group in self.groups)

    def _strengths(self, data: RunData, reward: RewardModel | None, progress: Progress) -> dict[str, Any]:
        """Return the strength to draw with, and what was tried, on training likes."""
        requests = training_likes(data, self.config.trials)
        keep, config = self.config.keep, self.config
        if not requests or keep is None:
            return {}
        answers = self.answers(requests, data, reward)
        text = self._try(requests, answers, Strength(0, 0.0, config.decode.guidance_scale), data)
        tried: list[Tried] = []

        def attempt(strengths: Sequence[Strength]) -> Strength:
            for strength in strengths:
                tried.append(self._try(requests, answers, strength, data))
                progress("taste: strengths", len(tried), len(first) + len(around(first[0])))
            return choose(tried, text.kept, keep)

        first = candidates(config.show, self._style_groups, config.decode)
        best = attempt(first)
        best = attempt(around(best))
        return {"strength": best, "tried": tuple(tried), "text_kept": text.kept}

    def _try(
        self, requests: Sequence[Request], answers: Sequence[Answer], strength: Strength, data: RunData
    ) -> Tried:
        """Return what the images drawn under a strength keep, and what they are thought of."""
        conditions = [
            self.drawing(request, answer, data, strength)[0]
            for request, answer in zip(requests, answers, strict=True)
        ]
        images = self.backbone.generate(conditions, strength.sampling(self.config.decode))
        embeddings = self.encoder.images(list(images))
        items = [data.item_rows[request.item_id] for request in requests]
        kept = self._same_content(embeddings, data.image_features[items])
        assert self._asked is not None
        users = [data.user_rows[request.user_id] for request in requests]
        opinion = self._asked.opinion(users, [request.item_id for request in requests], embeddings)
        return Tried(strength, float(kept.mean()), float(opinion.mean()))

    def _same_content(self, images: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return bool ``[n]``: do images ``[n, D]`` have the items' own images' tags ``[n, D]`` in every group of content?"""
        content = [group for group in self.groups if not group.style]
        shown, before = (tags(each, content, self.encoder) for each in (images, own))
        return (shown == before).all(axis=1)

    def _asking(self, data: RunData, reward: RewardModel | None) -> Asked:
        """Return who is asked about users, made once for the same data and reward."""
        asked = self._asked
        if asked is None or asked.sources.data is not data:
            catalogue = Catalogue.of(data, self.learned.rows, self.groups, self.encoder)
            belief = self.learned.belief
            sources = Sources.of(data, catalogue, reward, belief.basis, belief.population)
            asked = self._asked = Asked(sources, belief)
        asked.sources.reward = reward
        return asked

    def answers(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        k: int | None = None,
    ) -> list[Answer]:
        """Return what is to be shown to each request's user; nothing is drawn, and no request influences another.

        `k` takes the place of the setting's.
        """
        asked = self._asking(data, reward)
        catalogue, belief, shared = asked.sources.catalogue, asked.belief, self.learned.shared
        users = [data.user_rows.get(request.user_id, -1) for request in requests]
        rows = np.array([data.item_rows[request.item_id] for request in requests], dtype=np.int64)
        items = catalogue.positions(rows)
        ridge = Ridge(catalogue.indicators, belief.tag_strength)
        common = ridge.coefficients(shared[None], np.array([-1]))[0]
        found: list[Answer] = []
        for part in asked.chunks(len(requests)):
            net, believed = asked.ask(users[part], rows[part])
            words = ridge.coefficients(net, items[part])
            sigmas = ridge.sigma(net, words)
            counts = asked.sources.counts(users[part])
            for row, item in enumerate(items[part]):
                image = top_image(net[row], shared, asked.sources.looks, k or self.config.k, int(item))
                chosen = best_words(words[row], common, float(sigmas[row]), catalogue, self.groups)
                sources = {name: round(float(values[row]), 4) for name, values in believed.items()}
                found.append(Answer(chosen, image, sources, int(counts[row])))
        return found

    def drawing(self, request: Request, answer: Answer, data: RunData, strength: Strength) -> Drawing:
        """Return what one image is drawn from under a strength, and the recipe that tells why."""
        text = data.texts[data.item_rows[request.item_id]]
        words = unnamed(answer.words, text, self.groups)[: strength.words]
        written = prompt(self.config.template, text, [word.phrase for word in words], self._fits)
        embedding = self._embedding(request, answer.image, data) if strength.scale > 0 else None
        recipe: dict[str, Any] = {
            "prompt": written,
            "negative_prompt": self.config.negative_prompt,
            "words": [word.as_json() for word in words],
            "believed": answer.believed,
            "encounters": answer.encounters,
        }
        if embedding is not None:
            recipe |= self._image_recipe(answer.image, data)
        return Condition(request.seed, written, self.config.negative_prompt, embedding), recipe

    def _embedding(self, request: Request, image: ShownImage, data: RunData) -> np.ndarray:
        assert self._asked is not None
        text = data.text_features[data.item_rows[request.item_id]]
        return self._asked.sources.looks.content(text) + image.style

    def _image_recipe(self, image: ShownImage, data: RunData) -> dict[str, Any]:
        items = [data.item_ids[row] for row in self.learned.rows[image.items]]
        return {
            "images": dict(zip(items, np.round(image.weights, 4).tolist(), strict=True)),
            "image_everybody": round(image.everybody, 4),
            "image_own": round(image.own, 4),
        }

    def _fits(self, text: str) -> bool:
        return self.backbone.count_tokens(text) <= self.backbone.prompt_limit

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order."""
        strength = self.learned.strength
        answers = self.answers(requests, data, reward)
        drawings = [
            self.drawing(request, answer, data, strength)
            for request, answer in zip(requests, answers, strict=True)
        ]
        if self.learned.corrector is not None and strength.scale > 0 and drawings:
            drawings = self._corrected(self.learned.corrector, requests, answers, drawings, data)
        sampling = strength.sampling(self.config.decode)
        if self.config.refine.steps and strength.scale > 0:
            drawings = self._refined(requests, drawings, data, reward, sampling)
        if self.config.best_of == 1:
            yield from draw(self, requests, drawings, sampling, progress)
        else:
            several = [self._noises(*pair) for pair in zip(requests, drawings, strict=True)]
            opinion = Opinion(self._asking(data, reward))
            keeps = None if self.config.keep is None else self._keeps(data)
            yield from draw_best(self, requests, several, opinion, sampling, progress, keeps)

    def _keeps(self, data: RunData) -> Callable[[Request, np.ndarray], np.ndarray]:
        """Return what says which images still show a request's item; of an item without an image of its own all do."""

        def keeps(request: Request, images: np.ndarray) -> np.ndarray:
            own = data.image_features[data.item_rows[request.item_id]]
            if not np.isfinite(own).all():
                return np.ones(len(images), dtype=bool)
            return self._same_content(images, np.repeat(own[None], len(images), axis=0))

        return keeps

    def _noises(self, request: Request, drawing: Drawing) -> list[Drawing]:
        condition, recipe = drawing
        seeds = candidate_seeds(request, self.config.best_of)
        return [(replace(condition, seed=seed), recipe) for seed in seeds]

    def _corrected(
        self,
        corrector: Corrector,
        requests: Sequence[Request],
        answers: Sequence[Answer],
        drawings: Sequence[Drawing],
        data: RunData,
    ) -> list[Drawing]:
        """Return the drawings with the image embeddings of (9), and how far they moved as a share of their length."""
        conditions = [condition for condition, _ in drawings]
        known = self._known(requests, answers, conditions, data)
        before = np.stack([np.asarray(each.image_embedding) for each in conditions])
        after = corrector.corrected(known, before)
        moved = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
        return [
            (replace(condition, image_embedding=row), {**recipe, "corrected": round(float(share), 4)})
            for (condition, recipe), row, share in zip(drawings, after, moved, strict=True)
        ]

    def _refined(
        self,
        requests: Sequence[Request],
        drawings: Sequence[Drawing],
        data: RunData,
        reward: RewardModel | None,
        sampling: Sampling,
    ) -> list[Drawing]:
        """Return the drawings with image embeddings moved uphill on the reward, batch by batch; see `refine`."""
        found: list[Drawing] = []
        for start in range(0, len(requests), sampling.batch_size):
            part = slice(start, start + sampling.batch_size)
            score = self._score(requests[part], data, reward)
            conditions = [condition for condition, _ in drawings[part]]
            moved = refine(
                self.backbone, self.encoder, conditions, self._texts(requests[part], data), score, sampling, self.config.refine
            )  # fmt: skip
            found += [(new, recipe) for new, (_, recipe) in zip(moved, drawings[part], strict=True)]
        return found

    def _score(self, requests: Sequence[Request], data: RunData, reward: RewardModel | None) -> Score:
        """Return the opinion of requests' images as a function of embeddings, or raise `UserError` if it has no gradient."""
        users, items = [request.user_id for request in requests], [request.item_id for request in requests]
        score = self._asking(data, reward).differentiable(users, items)
        if score is None:
            raise UserError(
                "recgen.taste.refine",
                found="a reward without a gradient with respect to the image",
                expected="a reward such as Verifier or VBPR",
                todo="Set recgen.ranker.reward to one of them, or recgen.taste.refine.steps and learn to 0.",
            )
        return score

    def prompts(self, requests: Sequence[Request], data: RunData, reward: RewardModel | None = None) -> Any:
        """Return a table of the requests' prompts for a service that draws elsewhere; nothing is drawn.

        Returns
        -------
        pandas.DataFrame
            Columns user_id, item_id, prompt, negative_prompt and words (a list of phrases), in the order of `requests`.
        """
        import pandas as pd

        columns = ["user_id", "item_id", "prompt", "negative_prompt", "words"]
        strength = replace(self.learned.strength, scale=0.0)
        rows = []
        for request, answer in zip(requests, self.answers(requests, data, reward), strict=True):
            _, recipe = self.drawing(request, answer, data, strength)
            words = [word["phrase"] for word in recipe["words"]]
            rows.append(
                (request.user_id, request.item_id, recipe["prompt"], recipe["negative_prompt"], words)
            )
        return pd.DataFrame(rows, columns=columns)

    def save(self, folder: Path) -> None:
        """Write what `fit` found out: arrays to model.safetensors, the rest to config.json."""
        learned.save(self.learned, folder)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote.

        Raises
        ------
        UserError
            If `folder` holds no taste.
        """
        self._learned, self._asked = learned.load(folder), None
