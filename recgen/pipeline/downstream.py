"""Which sources of images a run's downstream stage compares, and the work of each; told by the configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recgen.config import plugins
from recgen.config.generators import GeneratorSpec
from recgen.config.schema import Settings
from recgen.metrics.comparison import DEALT, ORIGINAL, SWAPPED
from recgen.pipeline import groups
from recgen.pipeline.task import Task
from recgen.recommender import recbole

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext

SHUFFLED, NONE, RANDOM = "SHUFFLED", "NONE", "RANDOM"
CONTROLS = (SHUFFLED, NONE)


def drawing(settings: Settings, specs: Mapping[str, GeneratorSpec]) -> list[str]:
    """Return the generators that are asked for more creatives; those that read their images from a folder cannot be."""
    chosen = settings.downstream.generators
    asked = settings.generators if chosen is None else chosen
    return [name for name in settings.generators if name in asked and specs[name].families]


def reranks(settings: Settings) -> bool:
    """Return whether lists are ranked again."""
    return settings.downstream.rerank is not None and settings.downstream.controls


def own_sources(generator: str) -> list[str]:
    """Return a generator and the two controls that are of its own creatives."""
    return [generator, f"{SWAPPED}{generator}", f"{DEALT}{generator}"]


def generator_of(source: str) -> str:
    """Return the generator whose creatives a source shows."""
    return source.removeprefix(SWAPPED).removeprefix(DEALT)


def sources(settings: Settings, specs: Mapping[str, GeneratorSpec]) -> list[str]:
    """Return what the model is trained on: the originals, the controls, then every generator with its own controls."""
    s = settings.downstream
    found = [ORIGINAL, *(CONTROLS if s.controls else ())]
    if s.items:
        found += [RANDOM, *(source for name in drawing(settings, specs) for source in own_sources(name))]
    return found


def tasks(run: RunContext) -> list[Task]:
    """Return the work of the downstream stage, draw by draw."""
    s = run.settings
    model = s.downstream.model or s.ranker.judge
    reads = {
        "keys": recbole.training_keys(run.config.recbole),
        "model": [model, plugins.ranking_model_source(model), s.ranker.settings.get(model), s.ranker.what_if],
        "settings": s.downstream.model_dump(include={"mix_weight", "settings"}),
    }
    found = []
    for turn in range(s.downstream.seeds):
        found += _draw(run, turn, reads)
    last = ("evaluate", *(task.name for task in found))
    return [*found, Task("downstream", "downstream", "recgen.stages.downstream:summarise", {}, last)]


def _draw(run: RunContext, turn: int, reads: dict[str, Any]) -> list[Task]:
    """Everything of one draw of the downstream stage: its requests, their creatives, the trainings and the lists."""
    s, specs = run.settings, run.config.generators
    rerank, names = reranks(s), drawing(s, specs)
    asked = s.downstream.model_dump(include={"items", "per_item", "rerank"})

    def task(
        what: str, call: str, after: list[str], reads: dict[str, Any], owns: str, *arguments: Any
    ) -> Task:
        return Task(
            f"downstream/{what}",
            "downstream",
            f"recgen.stages.{call}",
            reads,
            tuple(after),
            (owns,),
            arguments,
        )

    def training(source: str, after: list[str]) -> Task:
        folder = f"{source}/{turn}"
        return task(folder, "downstream:retrain", after, reads, f"downstream/{folder}", source, turn)

    first = f"downstream/{ORIGINAL}/{turn}"
    found = [training(ORIGINAL, ["features", "dataset/requests"])]
    found += [training(name, [first]) for name in sources(s, specs) if name in CONTROLS]
    before, draw, slate = [], f"draws/{turn}", f"slates/{turn}"
    if s.downstream.items:
        before.append(f"downstream/{draw}")
        found.append(task(draw, "draws:choose", ["dataset"], asked, f"{before[-1]}.parquet", turn))
        found.append(training(RANDOM, [first, f"downstream/{draw}"]))
    if rerank:
        before.append(f"downstream/{slate}")
        after = [f"downstream/{NONE}/{turn}"]
        found.append(task(slate, "rerank:choose", after, asked, f"{before[-1]}.parquet", turn))
    made = []
    for name in names if before else []:
        images = f"creatives/{name}/{turn}"
        made.append(f"downstream/{images}")
        drawn = {"shard_size": s.shard_size, "config": specs[name].draw_settings}
        after = [f"generator.fit/{name}", *groups.before_drawing(run), *before]
        found.append(task(images, "draws:create", after, drawn, made[-1], name, turn))
        if s.downstream.items:
            found += [training(arm, [first, made[-1]]) for arm in own_sources(name)]
    if rerank:
        path = f"reranked/{turn}"
        found.append(
            task(path, "rerank:rank", [first, *before, *made], reads, f"downstream/{path}.parquet", turn)
        )
    return found
