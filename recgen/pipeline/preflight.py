"""Before anything starts: are the data and the weights of a run here, or to be had? All that is missing is said at once.

Only what the work that is left will read is looked for, and nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recgen.config.generators import GeneratorSpec
from recgen.config.text_models import Endpoint
from recgen.core.errors import UserError
from recgen.diffusion.profiles import profile_of
from recgen.diffusion.weights import family, is_distilled, read_json, samples_with_lcm
from recgen.pipeline.missing_weights import DRAWING, Missing, missing_weights
from recgen.recommender.recbole import check_scores_by_images, check_shows_redraws, model_class

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext


def check(run: RunContext, stages: Iterable[str]) -> None:
    """Raise one `UserError` that names everything that `stages` of a run would read and that is not here, or does not fit.

    Parameters
    ----------
    run
        The run.
    stages
        The stages in which something is left to do.
    """
    left = set(stages)
    found = [*_data(run, left), *missing_weights(run, left), *_keys(run, left)]
    if len(found) == 1:
        (one,) = found
        todo = (
            f"Where there is a network: {one.fetch}. Then copy {_cache()} here."
            if one.fetch
            else "\n  ".join(("", *one.todo))
        )
        raise UserError(
            one.where, found=one.found, expected=one.expected, todo=todo if one.fetch or one.todo else ""
        )
    if found:
        raise UserError(
            run.config.source,
            found=f"{len(found)} things missing",
            expected="data and weights that are here; nothing was started",
            todo="\n".join(["", *_steps(found), *_without_weights(run, found)]),
        )
    if "ranker" in left:
        for role in run.roles:
            name, where = getattr(run.settings.ranker, role), f"{run.config.source}: recgen.ranker"
            check_scores_by_images(name, f"{where}.{role}")
            if run.settings.ranker.redraws:
                check_shows_redraws(name, f"{where}.redraws")
    if "market" in left:
        check_market(run)
    if left & DRAWING:
        check_compatibility(run)


def _steps(found: list[Missing]) -> Iterator[str]:
    """Yield the lines of a message about several things: data first, then weights by their commands."""
    for one in found:
        if not one.fetch:
            yield f"{one.where}: {one.found}"
            yield from (f"  {step}" for step in one.todo)
    fetched = [one for one in found if one.fetch]
    if fetched:
        yield f"Weights: fetch them where there is a network, and copy {_cache()} here, or set their keys to local copies"
        yield from (f"  {one.fetch}  ({one.where})" for one in fetched)
        yield from sorted({f"  {one.found}" for one in fetched})


def _without_weights(run: RunContext, found: list[Missing]) -> Iterator[str]:
    if any(one.fetch for one in found):
        yield "Or run on the small models that are shipped"
        yield f"  recgen run --config {run.config.source} --set recgen.encoder=demo-clip recgen.backbone=demo-sd"


def _cache() -> str:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return f"~/{cache.relative_to(Path.home())}" if cache.is_relative_to(Path.home()) else str(cache)


def _data(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Find what is missing of the data set."""
    s, download = run.settings, run.settings.download
    if "dataset" not in left or s.simulator is not None:
        return
    name, tables = f"{run.config.recbole['dataset']}.inter", run.inputs.tables
    images = (download.images,) if download and download.images else ()
    if not run.inputs.has_table(name):
        where = f"{run.config.source}: data_path {tables.url}" if tables else run.source
        steps = (
            (f"get {download.get}", f"put it into {download.into}", download.prepare, *images)
            if download
            else ()
        )
        yield Missing(f"{where}/{name}", "no such file", "a RecBole atomic file", steps)
    elif images and run.inputs.images is None and not _any_file(run.inputs.images_folder):
        yield Missing(str(run.inputs.images_folder), "no images", "the items' images", images)


def _any_file(folder: Path | None) -> bool:
    return folder is not None and folder.is_dir() and any(folder.iterdir())


def _keys(run: RunContext, left: set[str]) -> Iterator[Missing]:
    """Find the endpoints whose keys are not in the environment."""
    s, asked = run.settings, dict[str, Endpoint | None]()
    if "features" in left:
        asked |= {
            f"recgen.{need}.endpoint": getattr(s, need).endpoint
            for need in ("keywords", "tags")
            if need in run.needs
        }
    if "evaluate" in left and s.metrics.vlm is not None:
        asked["recgen.metrics.vlm.endpoint"] = s.metrics.vlm.endpoint
    for key, endpoint in asked.items():
        try:
            if endpoint is not None:
                endpoint.api_key(key)
        except UserError as error:
            yield Missing(error.where, error.found, error.expected, (error.todo,))


def check_market(run: RunContext) -> None:
    """Raise `UserError` where a market cannot be played: the users' taste is not known, or there is no such ranking model."""
    places = (run.source / "simulator", run.folder / "dataset/simulator")
    if run.settings.simulator is None and not any(place.is_dir() for place in places):
        raise UserError(
            f"{run.config.source}: recgen.market",
            found=f"data set {run.config.recbole['dataset']!r}, of which nobody knows what its users like",
            expected="a simulated one, whose users can open pages and click",
            todo="Take --config simulated or demo, or a data set that recgen data simulate made.",
        )
    if run.settings.market is not None and run.settings.market.model is not None:
        model_class(run.settings.market.model, f"{run.config.source}: recgen.market.model")


def check_compatibility(run: RunContext) -> None:
    """Raise `UserError` for a generator of a run that cannot draw with the pipeline that the configuration names for it.

    The pipelines are here, or can be fetched: `check` has made sure.
    """
    for spec in run.config.generators.values():
        if spec.families:
            _check_generator(run, spec)


def _check_generator(run: RunContext, spec: GeneratorSpec) -> None:
    s, name = run.settings, spec.name
    key, weights = "recgen.backbone", s.backbone
    if spec.checkpoint is not None:
        key, weights = f"recgen.{name}.checkpoint", spec.checkpoint
    _check_profile(run, weights, key)
    found = family(weights, key)
    if found not in spec.families:
        raise UserError(
            f"recgen.generators: {name}",
            found=f"{weights!r}, a pipeline of the family {found}",
            expected=f"{' or '.join(spec.families)}, which is what {name} can draw with",
            todo=f"Leave {name} out, or set {key} to another pipeline.",
        )
    if spec.requires_ip_adapter and s.ip_adapter is None:
        raise UserError(
            "recgen.ip_adapter",
            found=f"null, and {name} draws from image embeddings",
            expected=f"an IP-Adapter for {weights!r}",
            todo=f"Set recgen.ip_adapter to a hub id, folder or file, or leave {name} out.",
        )
    if samples_with_lcm(spec.settings) and s.lcm_lora is None and not is_distilled(weights, key):
        raise UserError(
            "recgen.lcm_lora",
            found=f"null, and {name} samples with lcm",
            expected=f"an LCM LoRA for {weights!r}, or a backbone that is distilled itself",
            todo="Set recgen.lcm_lora to a hub id, folder or file, or sample with ddim or dpm++2m.",
        )


def _check_profile(run: RunContext, weights: str, key: str) -> None:
    """Raise `UserError` for a hub id whose configuration was not here, so that its profile was guessed, and guessed wrong."""
    if key == "recgen.backbone" and run.settings.profile != "auto":
        return
    guessed = profile_of(weights)
    for file in ("model_index.json", "unet/config.json"):
        read_json(weights, file, key)  # fetched where it is not here
    true = profile_of(weights)
    if true != guessed:
        raise UserError(
            key,
            found=f"{weights!r}, taken for {guessed.name}, is {true.name}",
            expected="its own steps, guidance and strengths",
            todo="Run the same command again: its configuration is here now and is read.",
        )
