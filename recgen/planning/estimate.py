"""What each task of a run is estimated to be: its kind of work, its seconds, the images it draws and the tokens it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recgen.config import plugins
from recgen.config.generators import placebo_decode
from recgen.config.loader import Config
from recgen.config.schema import OpenClip, Requests
from recgen.config.text_models import Endpoint
from recgen.diffusion.sampling import Sampling
from recgen.planning import costs
from recgen.planning.machines import Machine
from recgen.planning.networks import (
    DiffusionNetwork,
    diffusion_network,
    encoder_size,
    language_network,
)
from recgen.planning.sizes import Sizes
from recgen.planning.trainings import training
from recgen.planning.workload import Effort, Workload, sampled

_PROMPT, _PER_WORD = 120, 6  # tokens of a question about an item, and of an answer's word
_PER_IMAGE = 300  # tokens of an image in a question, about: services differ
_PLACEBO = "control.placebo"


@dataclass(frozen=True)
class Cost:
    """The estimate of a task.

    Attributes
    ----------
    kind
        What its seconds are compared with when it is done: tasks of a kind are wrong by about the same factor.
    seconds
        On the machine.
    images
        Images that it draws.
    tokens
        Tokens that it asks an endpoint for: of questions, of answers.
    money
        What the endpoint charges for them, in the currency of its `price_per_million_tokens`.
    """

    kind: str
    seconds: float
    images: int = 0
    tokens: tuple[int, int] = (0, 0)
    money: float = 0.0


class Estimator:
    """Estimates tasks of a configuration by their stage and name.

    Parameters
    ----------
    config
        The configuration.
    sizes
        Of its data.
    machine
        Where it is to run.
    """

    def __init__(self, config: Config, sizes: Sizes, machine: Machine) -> None:
        self.config, self.settings, self.sizes, self.machine = config, config.settings, sizes, machine

    def cost(self, stage: str, name: str) -> Cost:
        """Return the estimate of the task `name` of a stage."""
        of: dict[str, Callable[[str], Cost]] = {
            "dataset": self._dataset,
            "features": self._features,
            "ranker": self._ranker,
            "generator.fit": self._fit,
            "generate": self._draw,
            "gate": self._gate,
            "evaluate": self._evaluate,
            "downstream": self._downstream,
            "market": self._market,
            "report": self._report,
        }
        return of[stage](name)

    @cached_property
    def network(self) -> DiffusionNetwork:
        """The run's diffusion pipeline."""
        return diffusion_network(self.settings.backbone)

    @cached_property
    def _encoder_gflops(self) -> float:
        return encoder_size(self.settings.encoder)[1]

    @cached_property
    def _llm(self) -> float:
        return language_network(self.settings.llm).parameters

    def _dataset(self, name: str) -> Cost:
        if name != "dataset":
            return Cost("small", 0.1)
        renders = self.settings.simulator is not None or self.settings.images == "rendered"
        return Cost("dataset", costs.dataset(self.sizes, self.machine, renders))

    def _features(self, name: str) -> Cost:
        items, s = self.sizes.items, self.settings
        if name == "features/keywords":
            return self._asked(items, s.keywords.n, s.keywords.endpoint)
        if name == "features/tags":
            cost = self._asked(items, s.tags.n, s.tags.endpoint)
            return (
                cost
                if s.tags.image != "endpoint"
                else Cost(cost.kind, 2 * cost.seconds, 0, _twice(cost.tokens), 2 * cost.money)
            )
        if name == "features/captions" and s.captioner == "clip-tagger":
            return Cost("small", costs.embedding(0, 500, self._encoder_gflops, self.machine))
        if name == "features/captions":
            return Cost("captions", costs.answers(items, 2.7e9, self.machine))
        if name == "features/judge":
            return self._judges_features()
        kind = f"encode {s.encoder.model if isinstance(s.encoder, OpenClip) else s.encoder}"
        return Cost(
            kind,
            costs.loading(self.machine) + costs.embedding(items, items, self._encoder_gflops, self.machine),
        )

    def _judges_features(self) -> Cost:
        """Every image goes through each judge's encoder but the run's own, which has seen it."""
        others = [spec for spec in self.settings.ranker.judge_encoders if spec != self.settings.encoder]
        each = (costs.embedding(self.sizes.items, 0, encoder_size(spec)[1], self.machine) for spec in others)
        return Cost("encode for the judge", costs.loading(self.machine) + sum(each))

    def _asked(self, prompts: int, words: int, endpoint: Endpoint | None) -> Cost:
        """Return the cost of one question about each item, to an endpoint or to the language model here."""
        if endpoint is None:
            return Cost(f"answers {self.settings.llm}", costs.answers(prompts, self._llm, self.machine))
        return self._service(endpoint, prompts, _PROMPT, words * _PER_WORD)

    def _service(self, endpoint: Endpoint, prompts: int, asked: int, written: int) -> Cost:
        """Return the cost of questions of `asked` tokens each, and of answers of `written`."""
        tokens = prompts * asked, prompts * written
        prices = endpoint.price_per_million_tokens
        money = (tokens[0] * prices.input + tokens[1] * prices.output) / 1e6
        return Cost(f"endpoint {endpoint.model}", prompts * 1.0 / endpoint.workers, 0, tokens, money)

    def _training(self, model: str, share: float, *more: dict[str, Any]) -> Cost:
        keys = (self.config.recbole, self.settings.ranker.settings.get(model, {}), *more)
        return Cost(f"train {model}", costs.training(training(model, *keys), self.sizes, share, self.machine))

    def _ranker(self, name: str) -> Cost:
        role = name.partition("/")[2]
        whole = role == "verifier" or self.settings.ranker.same_judge
        return self._training(getattr(self.settings.ranker, role), 0.8 * (1.0 if whole else 0.5))

    def _workload(self, name: str) -> tuple[Workload, DiffusionNetwork, int]:
        """Return a generator's work, the pipeline that does it, and the images it draws at once."""
        spec = self.config.generators[name]
        kind = plugins.settings_class(spec.kind, f"{self.config.source}: recgen.generators")
        work = kind.model_validate(spec.settings).workload(self._drawn, self.sizes.users)
        network = self.network if spec.checkpoint is None else diffusion_network(spec.checkpoint)
        return work, network, int((spec.settings.get("decode") or {}).get("batch_size", 32))

    @property
    def _drawn(self) -> int:
        """Images of a generator for the run's requests: fewer than these where users share them."""
        asked, requests = self.settings.requests, self.sizes.requests
        if self.settings.budget is not None and self.settings.budget.images is not None:
            requests = min(requests, self.settings.budget.images)
        if not isinstance(asked, Requests) or not asked.shares:
            return requests
        return min(requests, self._items_asked_for * asked.groups)

    @property
    def _items_asked_for(self) -> int:
        """Different items of the run's requests, at most."""
        asked, items = self.settings.requests, self.sizes.items
        if isinstance(asked, Requests) and asked.protocol == "blind":
            items = min(asked.items, items)
        return min(items, self.sizes.requests)

    def _drawing(self, effort: Effort, network: DiffusionNetwork, batch: int) -> float:
        batch = min(batch, max(self.settings.shard_size, 1))
        return costs.drawing(effort, network, self._encoder_gflops, self._llm, batch, self.machine)

    def _fit(self, name: str) -> Cost:
        generator = name.partition("/")[2]
        if not generator:  # groups of users, or what a budget is spent on: every user is asked about once
            return Cost("asking", 1.0 + self.sizes.users / 500)
        work, network, batch = self._workload(generator)
        kind = f"fit {self.config.generators[generator].kind}"
        return Cost(
            kind,
            costs.loading(self.machine) + self._drawing(work.fit, network, batch),
            round(work.fit.images),
        )

    def _draw(self, name: str) -> Cost:
        source = name.partition("/")[2]
        if not source:  # joins what the generators have drawn
            return Cost("small", 0.2)
        if source.startswith("swapped."):
            return Cost("small", 0.3)
        if source.startswith("control.") and source != _PLACEBO:
            embedding = costs.embedding(self.sizes.requests, 0, self._encoder_gflops, self.machine)
            return Cost("controls", costs.loading(self.machine) + embedding)
        if source == _PLACEBO:
            decode = Sampling.model_validate(placebo_decode(self.config.generators.values()) or {})
            images = self.settings.placebo_noises * self._items_asked_for
            effort = sampled(images, decode.steps, decode.guidance_scale)
            return Cost("draw placebo", self._drawing(effort, self.network, decode.batch_size), images)
        work, network, batch = self._workload(source)
        kind = f"draw {self.config.generators[source].kind}"
        return Cost(kind, self._drawing(work.draw, network, batch), round(work.draw.images))

    def _gate(self, name: str) -> Cost:
        """The judges' encoders look at every creative; what is asked of embeddings takes next to nothing."""
        looks = self.sizes.requests * len(self.settings.ranker.judge_encoders)
        return Cost("gate", 0.3 + costs.embedding(looks, 0, self._encoder_gflops, self.machine))

    def _evaluate(self, name: str) -> Cost:
        if name.startswith("groups/"):
            return self._sharing(name.partition("/")[2])
        if name == "evaluate":
            generators, controls = self.settings.generators, self.settings.controls
            return Cost("summary", costs.summary(len(generators), len(controls), self.machine))
        seconds = costs.measuring(self.sizes.requests, self.sizes, self.machine)
        vlm = self.settings.metrics.vlm
        if vlm is None or name.partition("/")[2] not in self.settings.generators:
            return Cost("measure", seconds)
        requests = min(self._drawn, vlm.requests or self._drawn)
        shown = _PROMPT + (vlm.liked + 2) * _PER_IMAGE
        asked = self._service(vlm.endpoint, 2 * requests, shown, _PER_WORD)
        return Cost(asked.kind, seconds + asked.seconds, 0, asked.tokens, asked.money)

    def _sharing(self, generator: str) -> Cost:
        """An image a request for the users' own creatives and, as some are shared, less than one for each number of groups."""
        asked = self.settings.requests
        assert isinstance(asked, Requests)
        images = 3 * min(asked.compare, self.sizes.requests)
        work, network, batch = self._workload(generator)
        some = work.draw * (images / max(self._drawn, 1))
        kind = f"draw {self.config.generators[generator].kind}"
        return Cost(kind, self._drawing(some, network, batch), round(some.images))

    def _downstream(self, name: str) -> Cost:
        s, what = self.settings, name.split("/")[1:]
        if not what or what[0] in ("draws", "slates", "reranked"):
            return Cost("small", 0.3)
        if what[0] == "creatives":
            return self._more_creatives(what[1])
        return self._training(s.downstream.model or s.ranker.judge, 0.8, s.downstream.settings)

    def _market(self, name: str) -> Cost:
        """Trainings of every world and round, and a user's creatives of about two pages' items."""
        s, market = self.settings, self.settings.market
        assert market is not None
        names = [each for each in s.generators if market.generators is None or each in market.generators]
        arms = 1 + ("constant" in market.controls) + len(names) * (1 + ("swapped" in market.controls))
        trainings = market.seeds * (
            1 + (1 + arms * market.own_worlds) * (1 + market.negative_control) * market.rounds
        )
        model = market.model or s.downstream.model or s.ranker.judge
        seconds = trainings * self._training(model, 0.8, s.downstream.settings).seconds
        images = market.users * min(market.candidates, 2 * market.places)
        for each in names:
            work, network, batch = self._workload(each)
            seconds += self._drawing(work.draw * (images / max(work.draw.images, 1)), network, batch)
        return Cost("market", seconds, images * len(names))

    def _more_creatives(self, generator: str) -> Cost:
        """Estimate one draw's creatives of the downstream stage from what the run's own requests take."""
        d = self.settings.downstream
        asked = 2 * d.items * d.per_item
        if d.rerank is not None and d.controls:
            asked += d.rerank.users * (d.rerank.negatives + 2)
        work, network, batch = self._workload(generator)
        some = work.draw * (asked / max(self._drawn, 1))
        kind = f"draw {self.config.generators[generator].kind}"
        return Cost(kind, self._drawing(some, network, batch), round(some.images))

    def _report(self, name: str) -> Cost:
        return Cost("report", costs.report(self.settings.gallery, self.machine))


def _twice(tokens: tuple[int, int]) -> tuple[int, int]:
    return 2 * tokens[0], 2 * tokens[1]
