"""What a program, a notebook and the command line call; `recgen` has the first four by these names.

import recgen

run = recgen.run("demo", requests=40, ragar__k=3)   # as `recgen run --config demo --set recgen.requests=40 recgen.ragar.k=3`
run.metrics["creatives"]["ragar"]["delta_r_judge"]
run.creatives                                       # a pandas table
run.draw("196", "242", "ragar").image               # any user, any item
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from recgen.pipeline import session
from recgen.pipeline.context import RunContext
from recgen.pipeline.home import local
from recgen.pipeline.session import logging_to as logging_to
from recgen.runs import Run


def run(
    config: str | Path,
    out: str | Path | None = None,
    overrides: Iterable[str] = (),
    until: str | None = None,
    force: str | None = None,
    share: bool = False,
    **settings: Any,
) -> Run:
    """Run a configuration in its folder, from a data set to a report, and open it; what is done already is skipped.

    Parameters
    ----------
    config
        A YAML file, or the name of one in recbole_configs.
    out
        The run's folder, or an URL such as ``s3://bucket/run`` (`recgen.pipeline.home`); ``runs/<configuration's name>`` by
        default.
    overrides
        ``KEY=VALUE`` strings with dotted keys, as of ``--set``; the way to RecBole's own keys: ``["epochs=3"]``.
    until
        The last stage to run; None runs all.
    force
        A stage to do again, with everything that comes after it.
    share
        Whether to take over what runs beside this folder have finished.
    settings
        Keys below ``recgen:``, two underscores for a dot: ``seed=7, ragar__k=3``. A mapping takes the place of the whole block.

    Raises
    ------
    UserError
        For a mistake in the configuration or in what it names, before anything is started.
    """
    told = [*overrides, *as_overrides(settings)]
    return Run(session.run(str(config), _text(out), told, until, force, share))


def open(folder: str | Path) -> Run:
    """Open the folder of a run; see `recgen.runs.Run`."""
    return Run(folder)


def evaluate(
    config: str | Path,
    creatives: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    overrides: Iterable[str] = (),
    **settings: Any,
) -> Run:
    """Judge images made elsewhere as those of a generator, and open the run that does it.

    Parameters
    ----------
    config, overrides, settings
        As of `run`.
    creatives
        A folder of images with a manifest.csv, or several; ``"NAME=DIR"`` gives one another name than the folder's.
    out
        The run's folder; ``runs/<configuration's name>-<names>`` by default.
    """
    from recgen import external

    folders = [creatives] if isinstance(creatives, str | Path) else creatives
    told = [*overrides, *as_overrides(settings)]
    return Run(external.evaluate(str(config), [str(folder) for folder in folders], _text(out), told))


def tune(
    config: str | Path,
    trials: int,
    storage: str | None = None,
    workers: int = 1,
    out: str | Path | None = None,
    overrides: Iterable[str] = (),
    **settings: Any,
) -> Path:
    """Look for better settings of the generators on validation, test the winner once, and return the study's folder.

    The folder has ``study.html``, ``best.yaml`` and, for `open`, ``winner``. The arguments are those of
    `recgen.tuning.tune`; `settings` are as of `run`.
    """
    from recgen import tuning

    told = [*overrides, *as_overrides(settings)]
    tuning.tune(str(config), trials, storage, workers, _text(out), told)
    return Path(out) if out is not None else Path("runs") / f"{Path(config).stem}-tune"


def market(folder: str | Path, overrides: Iterable[str] = (), **settings: Any) -> dict[str, Any]:
    """Play the simulator as a shop with a run's recommender and generators, and return what came of it.

    Parameters
    ----------
    folder
        The folder of a run over simulated users, whose generators are fitted.
    overrides
        As of `run`.
    settings
        Keys below ``recgen.market``.

    Returns
    -------
    What market/summary.json holds; see `recgen.metrics.market.summary`.
    """
    told = [f"recgen.market.{key}={json.dumps(value)}" for key, value in settings.items()]
    return session.market(local(folder), [*told, *overrides])


def verify(folder: str | Path) -> str:
    """Compare every output on record in a run's folder with its digest, and return a line that says all are whole.

    Packed images are compared with the manifest's digests as well, each read from where the index says that it lies.

    Raises
    ------
    UserError
        If there is no such run, a process is at work in it, or files are damaged or gone; the next run of the same configuration
        makes them again.
    """
    from recgen.core.errors import UserError
    from recgen.pipeline.workspace import Workspace
    from recgen.stages.chunks import damaged_places

    place = local(folder)
    if not (place / "stages").is_dir():
        raise UserError(f"--run {folder}", found="no finished task", expected="a run's folder")
    workspace = Workspace(place)
    with workspace.reading():
        damaged = [name for names in workspace.verify().values() for name in names]
        damaged += damaged_places(place)
    if damaged:
        shown = ", ".join(damaged[:10]) + (f" and {len(damaged) - 10} more" if len(damaged) > 10 else "")
        raise UserError(
            f"--run {folder}",
            found=f"{len(damaged)} files damaged or gone: {shown}",
            expected="the files as they were written",
            todo="Run the same command as before: it makes them again.",
        )
    return f"{folder}: every file on record is as it was written"


def as_overrides(settings: dict[str, Any]) -> list[str]:
    """Return keyword arguments as ``--set`` has them.

    >>> as_overrides({"seed": 7, "ragar__k": 3, "generators": ["ragar"]})
    ['recgen.seed=7', 'recgen.ragar.k=3', 'recgen.generators=["ragar"]']
    """
    return [
        f"recgen.{key.replace('__', '.')}={json.dumps(value, default=str)}" for key, value in settings.items()
    ]


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def report(work: RunContext) -> list[Path]:
    """The report stage: write report.html and return its path."""
    from recgen.report import build

    return [build(work.folder)]


def report_again(folder: str, compare: Iterable[str], out: str | None = None) -> Path:
    """Write the report of a run's folder anew, or to `out`, and return its path; with `compare` a page of these runs instead.

    That page is the folder's compare.html where `out` does not say otherwise. Without `out` the folder is locked meanwhile; with
    it nothing is written there, so that the folder may be read-only.
    """
    from recgen.pipeline.workspace import Workspace
    from recgen.report import build
    from recgen.report import compare as put_side_by_side
    from recgen.report.run_files import RunFiles

    runs = [local(folder), *map(local, compare)]

    def write(path: Path | None) -> Path:
        if len(runs) == 1:
            return build(runs[0], path)
        return put_side_by_side(runs, runs[0] / "compare.html" if path is None else path)

    if out is not None:
        return write(Path(out))
    RunFiles.read(runs[0])  # so that a mistyped name makes no folder
    workspace = Workspace(runs[0])
    with workspace.lock():
        written = write(None)
        workspace.rewritten("report", written)
    return written


def draw(folder: str, user: str, item: str, out: str, generator: str | None = None) -> str:
    """Draw an image of an item for a user into a PNG file with its recipe inside, and return a line that says where it is."""
    from recgen.core import provenance
    from recgen.core.io import write_bytes
    from recgen.stages.generate import is_drawn, png

    opened = Run(folder)
    creative = opened.draw(user, item, generator)
    told = json.dumps(creative.recipe, sort_keys=True, ensure_ascii=True)
    image = png(creative, told)
    drawn = is_drawn(opened.context, creative.generator)
    write_bytes(Path(out), provenance.stamped(image, told) if drawn else image)
    return f"{out}: item {item} for user {user}, drawn by {creative.generator}"


def simulate(out: str, users: int, items: int, seed: int) -> str:
    """Make a simulated data set and return a line that says what it is."""
    from recgen.data.simulation.simulator import World
    from recgen.data.simulation.simulator import simulate as make

    made = make(Path(out), World(users, items), seed)
    return f"{out}: {len(made.user_ids)} users, {len(made.item_ids)} items, and the truth about them in {out}/simulator"
