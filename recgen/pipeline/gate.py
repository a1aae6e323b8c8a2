"""The gate's tasks: what decides about creatives, and what its decisions rest on."""

from __future__ import annotations

from typing import Any

from recgen.config.schema import SHIPPED
from recgen.core.io import identity
from recgen.features import safety
from recgen.features.vocabulary import vocabulary_file
from recgen.pipeline.context import RunContext
from recgen.pipeline.task import Task


def tasks(run: RunContext) -> list[Task]:
    """Return one task a generator; none where there is no gate."""
    return [] if run.settings.gate is None else [_task(run, name) for name in run.settings.generators]


def _task(run: RunContext, name: str) -> Task:
    s, gate = run.settings, run.settings.gate
    assert gate is not None
    reads: dict[str, Any] = {
        "gate": gate.model_dump(exclude={"safety"}),
        "safety": safety_checker(run, name),
        "vocabulary": identity(vocabulary_file(s.tagger, s.encoder)),
        "what_if": s.ranker.what_if,
    }
    roles = sorted({run.resolve_role(role) for role in gate.models})
    after = ("features", f"generate/{name}", *(f"ranker/{role}" for role in roles))
    return Task(
        f"gate/{name}", "gate", "recgen.stages.gate:judge", reads, after, (f"gate/{name}.parquet",), (name,)
    )


def safety_checker(run: RunContext, name: str) -> str | None:
    """Return the name of what says whether a generator's images are safe; None where nothing does."""
    gate, spec = run.settings.gate, run.config.generators[name]
    assert gate is not None
    shipped = run.settings.backbone.startswith(SHIPPED["backbone"])
    return safety.chosen(gate.safety, shipped and bool(spec.families) and spec.checkpoint is None)
