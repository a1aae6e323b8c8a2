"""The stages in their order, and all work of a run as tasks. Read this first.

Each `Task` is a piece of work: what to call, the stage it belongs to, the settings and files it reads, the tasks it comes after
and the files it owns.
"""

from __future__ import annotations

from typing import Any

from recgen.assets import asset_folder
from recgen.config import plugins
from recgen.config.generators import GeneratorSpec, placebo_decode
from recgen.config.schema import OpenClip
from recgen.config.text_models import Tagger
from recgen.core.io import identity
from recgen.diffusion.weights import samples_with_lcm
from recgen.pipeline import budget, controls, downstream, gate, groups
from recgen.pipeline.context import RunContext, of_judge
from recgen.pipeline.task import Task
from recgen.recommender import recbole

STAGES = (
    "dataset",
    "features",
    "ranker",
    "generator.fit",
    "generate",
    "gate",
    "evaluate",
    "downstream",
    "market",
    "report",
)


_DRAW, _SHARE = "recgen.stages.chunks:draw_all", "recgen.stages.chunks:draw_share"
_ENDS = ("safetensors", "ids.txt")  # of the files of features


def tasks(run: RunContext) -> list[Task]:
    """Return all work of a run, each task after those it needs."""
    names, specs = run.settings.generators, run.config.generators.values()
    return [
        *_data(run),
        *(_external_files(run, spec) for spec in specs if spec.external_files),
        *_features(run),
        *(_ranker(run, role) for role in run.roles),
        *groups.tasks(run),
        *budget.tasks(run),
        *(task for spec in specs for task in _generator(run, spec)),
        *_controls(run),
        _collect(run),
        *gate.tasks(run),
        *(_evaluate(run, name) for name in (*names, *controls.names(run.settings))),
        *groups.curves(run),
        _summary(run),
        *downstream.tasks(run),
        *_market(run),
        _report(run),
    ]


def _data(run: RunContext) -> list[Task]:
    s = run.settings
    chosen = s.model_dump(
        include={
            "eval_split",
            "images",
            "image_ids",
            "text_fields",
            "like_threshold",
            "max_bad_images",
            "simulator",
        }
    )
    reads = {
        "keys": recbole.data_keys(run.config.recbole),
        "settings": chosen,
        "files": run.inputs.identities(),
    }
    return [
        Task("dataset", "dataset", "recgen.stages.dataset:build", reads, owns=("dataset", "simulated")),
        Task(
            "dataset/requests",
            "dataset",
            "recgen.stages.dataset:choose",
            s.model_dump(include={"requests"}),
            ("dataset",),
        ),
    ]


def _features(run: RunContext) -> list[Task]:
    halves = run.settings.precision != "float32"  # on a GPU
    reads: dict[str, Any] = {"encoder": _weights(run.settings.encoder), "halves": halves}
    given = run.inputs.given_identities()
    if given:
        reads["given"] = given
    if run.settings.ranker.text_encoder is not None:
        reads["text encoder"] = run.settings.ranker.text_encoder
    return [
        Task("features", "features", "recgen.stages.features:embed", reads, ("dataset",), ("features",)),
        *_features_of_judge(run),
        *_redraws(run),
        *_words(run),
    ]


def _features_of_judge(run: RunContext) -> list[Task]:
    """The items' images as the judge sees them, where it has an encoder of its own."""
    encoders = run.settings.ranker.judge_encoders
    if not encoders:
        return []
    names = (of_judge("image", member) for member in range(len(encoders)))
    owns = ("features/judge_shards", *(f"features/{name}.{end}" for name in names for end in _ENDS))
    call, reads = (
        "recgen.stages.features:embed_for_judge",
        {"encoders": [_weights(each) for each in encoders]},
    )
    return [Task("features/judge", "features", call, reads, ("features",), owns)]


def _redraws(run: RunContext) -> list[Task]:
    """Redraws of the items' images, as every encoder that a ranking model reads sees them."""
    s = run.settings
    if not s.ranker.redraws:
        return []
    weights = [_weights(each) for each in (s.backbone, s.ip_adapter, *s.ranker.judge_encoders)]
    reads = {"redraws": s.ranker.redraws, "precision": s.precision, "weights": weights}
    names = ("redraws", *(of_judge("redraws", member) for member in range(len(s.ranker.judge_encoders))))
    files = (f"features/{name}.{end}" for name in names for end in _ENDS)
    call, owns = "recgen.stages.redraws:redraw_items", ("features/redrawn", *files)
    return [Task("features/redraws", "features", call, reads, ("features",), owns)]


def _words(run: RunContext) -> list[Task]:
    """Captions, keywords, tags and foregrounds of the items, where a generator asks for them."""
    s, found = run.settings, []
    if "captions" in run.needs:
        reads = {"captioner": _captioner(run, s.captioner)}
        owns = (
            "features/captions",
            "features/captions.parquet",
            "features/caption.safetensors",
            "features/caption.ids.txt",
        )
        call = "recgen.stages.features:caption"
        found.append(Task("features/captions", "features", call, reads, ("features",), owns))
    if "keywords" in run.needs:
        endpoint = s.keywords.endpoint
        model = _weights(s.llm) if endpoint is None else [endpoint.public_url, endpoint.model]
        call, after = "recgen.stages.features:extract_keywords", ("features/captions",)
        reads = {"n": s.keywords.n, "model": model}
        found.append(
            Task("features/keywords", "features", call, reads, after, ("features/keywords.parquet",))
        )
    if "tags" in run.needs:
        endpoint = s.tags.endpoint
        model = _weights(s.llm) if endpoint is None else [endpoint.public_url, endpoint.model]
        seen = s.tags.image == "endpoint"
        reads = {
            "settings": s.tags.model_dump(include={"n", "domain"}),
            "model": model,
            "image": ["endpoint", model] if seen else _captioner(run, s.tags.image),
        }
        call, files = "recgen.stages.features:tag_items", ("features/tags.parquet",)
        found.append(Task("features/tags", "features", call, reads, ("features",), files))
    if "foregrounds" in run.needs:
        cut = ("features/foregrounds", "features/foreground.safetensors", "features/foreground.ids.txt")
        call, reads = "recgen.stages.features:cut_foregrounds", {"foreground": s.foreground}
        found.append(Task("features/foregrounds", "features", call, reads, ("features",), cut))
    return found


def _captioner(run: RunContext, spec: str | Tagger) -> Any:
    """Identify what describes the images: a vocabulary by its contents, a model like any weights."""
    if isinstance(spec, str) and spec != "clip-tagger":
        return _weights(spec)
    from recgen.features.vocabulary import vocabulary_file

    return identity(vocabulary_file(spec, run.settings.encoder))


def _ranker(run: RunContext, role: str) -> Task:
    ranker = run.settings.ranker
    name = getattr(ranker, role)
    reads = {
        "keys": recbole.training_keys(run.config.recbole),
        "model": [name, plugins.ranking_model_source(name), ranker.settings.get(name)],
        "same_judge": ranker.same_judge,
    }
    folder = f"ranker/{role}"
    after = ["features"]
    if role == "judge" and ranker.judge_encoders:
        after.append("features/judge")
    if ranker.redraws:
        after.append("features/redraws")
    if role == "reward" and run.holds_out:
        after.append("dataset/requests")
    return Task(folder, "ranker", "recgen.stages.ranker:train", reads, tuple(after), (folder,), (role,))


def _external_files(run: RunContext, spec: GeneratorSpec) -> Task:
    reads = {"config": spec.settings, "files": [_weights(each) for each in spec.external_files]}
    call, after = "recgen.stages.generate:check", ("dataset/requests",)
    return Task(f"dataset/{spec.name}", "dataset", call, reads, after, arguments=(spec.name,))


def _generator(run: RunContext, spec: GeneratorSpec) -> list[Task]:
    s, name = run.settings, spec.name
    reads = {
        "config": spec.fit_settings,
        "source": plugins.source(plugins.GENERATORS, spec.kind),
        "weights": [
            _weights(spec.checkpoint or s.backbone),
            _weights(s.ip_adapter),
            _weights(s.lcm_lora if samples_with_lcm(spec.settings) else None),
        ],
        "precision": s.precision,
        "files": [_weights(each) for each in spec.external_files],
    }
    if "keywords" in spec.needs:  # such a generator learns with the language model too
        reads["llm"] = _weights(s.llm)
    fit, draw = f"generator.fit/{name}", f"generate/{name}"
    asked = ("reward", "judge") if not s.ranker.judge_encoders else ("reward",)
    needs = (
        "features",
        *(f"features/{need}" for need in spec.needs),
        *(f"ranker/{run.resolve_role(role)}" for role in asked),
        *(["dataset/requests"] if run.holds_out else []),
    )
    drawn = {"shard_size": s.shard_size, "config": spec.draw_settings}
    images = (f"creatives/shards/{name}", f"creatives/images/{name}")
    known = budget.before_drawing(run)
    learn, place = "recgen.stages.generate:fit", (f"generator/{name}",)
    return [
        Task(fit, "generator.fit", learn, reads, needs, place, (name,)),
        Task(draw, "generate", _DRAW, drawn, (fit, "dataset/requests", *known), images, (name,), _SHARE),
    ]


def _controls(run: RunContext) -> list[Task]:
    """The controls: from the catalogue's images and the reward, or from what a generator has drawn."""
    s, found = run.settings, []
    for name in controls.names(s):
        source = name.removeprefix(controls.SWAPPED)
        swaps = source != name
        reads: dict[str, Any] = {"shard_size": s.shard_size}
        after = [
            "features",
            "dataset/requests",
            f"ranker/{run.resolve_role('reward')}",
            *budget.before_drawing(run),
        ]
        if swaps:
            after.append(f"generate/{source}")
        if name == controls.PLACEBO:
            reads |= {
                "weights": _weights(s.backbone),
                "precision": s.precision,
                "sampled as": placebo_decode(run.config.generators.values()),
                "noises": s.placebo_noises,
            }
        owns = (f"creatives/shards/{name}", f"creatives/images/{name}")
        found.append(Task(f"generate/{name}", "generate", _DRAW, reads, tuple(after), owns, (name,), _SHARE))
    return found


def _collect(run: RunContext) -> Task:
    names = run.settings.generators
    after = tuple(f"generate/{name}" for name in names)
    owns = ("creatives/index.parquet",)  # there only where images are packed
    return Task("generate", "generate", "recgen.stages.generate:collect", {"generators": names}, after, owns)


def _evaluate(run: RunContext, name: str) -> Task:
    reads = {"what_if": run.settings.ranker.what_if, "reader": _weights("attribute-reader")}
    after = [f"generate/{name}", *(f"ranker/{role}" for role in run.roles)]
    vlm = run.settings.metrics.vlm
    if vlm is not None and name in run.settings.generators:
        asked = vlm.model_dump(include={"against", "liked", "requests"})
        reads["vlm"] = {**asked, "model": [vlm.endpoint.public_url, vlm.endpoint.model]}
        if vlm.against == "swapped":
            after.append(f"generate/{controls.SWAPPED}{name}")
    return Task(
        f"evaluate/{name}",
        "evaluate",
        "recgen.stages.measure:measure",
        reads,
        tuple(after),
        arguments=(name,),
    )


def _summary(run: RunContext) -> Task:
    measured = (*run.settings.generators, *controls.names(run.settings))
    gated = (task.name for task in (*gate.tasks(run), *groups.curves(run), *budget.tasks(run)))
    after = ("generate", *(f"evaluate/{name}" for name in measured), *gated)
    reads = {
        "facts": run.settings.model_dump(
            mode="json",
            exclude={
                "gallery",
                "gate",
                "budget",
                "market",
                "shard_size",
                "pack",
                "tune",
                "download",
                "workers",
                "engine",
            },
        )
    }
    return Task("evaluate", "evaluate", "recgen.stages.evaluate:summarise", reads, after, ("metrics.json",))


def _market(run: RunContext) -> list[Task]:
    """The market, where there is one. Its creatives outlive a change of its settings, so it does not own them."""
    s = run.settings
    if s.market is None:
        return []
    model = s.market.model or s.downstream.model or s.ranker.judge
    specs = run.config.generators.values()
    reads = {
        "keys": recbole.training_keys(run.config.recbole),
        "model": [model, plugins.ranking_model_source(model), s.ranker.settings.get(model)],
        "training": s.downstream.settings,
        "settings": s.market.model_dump(),
        "drawn": {spec.name: spec.draw_settings for spec in specs},
        "reader": _weights("attribute-reader"),
    }
    fitted = (f"generator.fit/{spec.name}" for spec in specs)
    after = ("features", "dataset/requests", *groups.before_drawing(run), *fitted)
    owns = ("market/worlds", "market/log.parquet", "market/quality.parquet", "market/summary.json")
    return [Task("market", "market", "recgen.stages.market:open_market", reads, after, owns)]


def _report(run: RunContext) -> Task:
    reads, after = {"gallery": run.settings.gallery}, ["downstream"]
    if run.settings.market is not None:
        after.append("market")
    return Task("report", "report", "recgen.api:report", reads, tuple(after), ("report.html",))


def _weights(spec: str | OpenClip | None) -> Any:
    """Identify weights: a shipped or local folder by its files, anything else by its name."""
    if spec is None or isinstance(spec, OpenClip):
        return None if spec is None else spec.model_dump()
    folder = asset_folder(spec)
    return [spec, identity(folder)] if folder.exists() else spec
