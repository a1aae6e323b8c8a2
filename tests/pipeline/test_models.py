"""The networks of a run: loaded once, let go of when no task needs them, and the collector set aside only meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from recgen.config.loader import Config, load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.pipeline.models import Models


@pytest.fixture
def config(tmp_path: Path, write_config, tiny_diffusion, tiny_xl) -> Config:
    """One generator draws with the run's pipeline, two with checkpoints of their own."""
    own = {
        name: {"generator": "stable_diffusion", "checkpoint": str(path)}
        for name, path in (("large", tiny_xl), ("small", tiny_diffusion))
    }
    return load_config(str(write_config(tmp_path, generators=["stable_diffusion", *own], **own)))


@pytest.fixture
def models(config: Config) -> Iterator[Models]:
    gc.unfreeze()
    yield Models(config)
    gc.unfreeze()


def test_what_is_kept_stays_and_all_else_leaves_memory(models: Models) -> None:
    encoder, unet = models.encoder, weakref.ref(models.backbone.pipeline.unet)
    before = models.backbone.name
    models.release("encoder", "judge_encoders")
    assert unet() is None, "nothing holds it any more"
    assert models.encoder is encoder and models.backbone.name == before, (
        "it is loaded again when it is asked for"
    )


def test_one_checkpoint_of_a_generators_own_is_loaded_at_a_time(models: Models) -> None:
    large = models.backbone_for("large")
    assert models.backbone_for("large") is large and large.name != models.backbone.name
    assert models.backbone_for("stable_diffusion") is models.backbone
    models.release("backbone")
    assert models.backbone_for("large") is large, "a checkpoint stays with the pipelines"
    unet = weakref.ref(large.pipeline.unet)
    del large
    models.backbone_for("small")
    gc.collect()
    assert unet() is None
    unet = weakref.ref(models.backbone_for("small").pipeline.unet)
    models.release()
    assert unet() is None


def test_objects_are_set_aside_once_no_model_is_loaded(models: Models) -> None:
    models.release()
    assert gc.get_freeze_count() == 0, "nothing was loaded"
    _ = models.encoder, models.backbone
    models.release("encoder")
    assert gc.get_freeze_count() == 0, "a model among them would never be collected"
    models.release()
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_run_the_collector_searches_everything_again(
    tmp_path: Path, write_config, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    frozen, freeze = [], gc.freeze

    def watched() -> None:
        freeze()
        frozen.append(gc.get_freeze_count())

    def failing(*_: object) -> None:
        raise UserError("ranker", found="a test", expected="an error after a model was let go of")

    monkeypatch.setattr(gc, "freeze", watched)
    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    if fails:
        monkeypatch.setattr("recgen.stages.ranker.train", failing)
        with pytest.raises(UserError, match="found a test"):
            pipeline.execute(run, until="ranker")
    else:
        pipeline.execute(run, until="ranker")
    assert frozen and frozen[0] > 0 and gc.get_freeze_count() == 0
