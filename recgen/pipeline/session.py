"""A run from its lock to its last line: what `recgen run` and everything that runs a configuration on the way call."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.remote import is_url
from recgen.pipeline import forecast, pipeline, preflight
from recgen.pipeline.cache import ArtifactCache
from recgen.pipeline.context import RunContext
from recgen.pipeline.home import folder_of
from recgen.pipeline.tasks import tasks
from recgen.planning.plan import Plan

logger = logging.getLogger("recgen")


def run_folder(config: str, out: str | None) -> Path:
    """Return the folder of a configuration's run: `out`, or ``runs/<configuration's name>``; of an URL, where it is worked on.

    Raises
    ------
    UserError
        If there is a file in its place.
    """
    if out is not None and is_url(out):
        return folder_of(out)
    folder = Path(out) if out is not None else Path("runs") / Path(config).stem
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", found="a file", expected="a folder, or a name that is free")
    return folder


def run(
    config: str,
    out: str | None = None,
    overrides: Iterable[str] = (),
    until: str | None = None,
    force: str | None = None,
    share: bool = False,
) -> Path:
    """Run a configuration in its folder, say what was done and where the report is, and return the folder.

    Parameters
    ----------
    config
        A YAML file, or the name of one in recbole_configs.
    out
        The run's folder or URL; see `run_folder`.
    overrides
        ``KEY=VALUE`` strings with dotted keys.
    until, force
        The last stage to run, and a stage to do again with what follows it.
    share
        Whether to take over what runs beside this folder have finished.
    """
    pipeline.check_stages(until, force)  # before the folder is made, or its configuration replaced
    loaded = load_config(config, overrides)
    folder = run_folder(config, out)
    work = RunContext(loaded, folder)
    with work.workspace.lock(), logging_to(folder / "log.txt"):
        started = time.perf_counter()
        work.write_config()
        cache = ArtifactCache(folder.resolve().parent) if share else None
        planned, clock = forecast.plan(work, until, force, cache=cache)
        if planned.left:
            logger.info(planned.line())
        done = pipeline.execute(work, until, force, cache=cache, clock=clock, workers=planned.workers)
        _conclude(work, done, len(planned.tasks), time.perf_counter() - started)
        if until in (None, "report"):
            logger.info("Report: %s", folder / "report.html")
    return folder


def plan(
    config: str,
    out: str | None = None,
    overrides: Iterable[str] = (),
    until: str | None = None,
    force: str | None = None,
    gpu: str | None = None,
    price: float | None = None,
) -> Plan:
    """Return what `run` would do with the same arguments, what is done already and what the rest will take; write nothing.

    Parameters
    ----------
    config, out, overrides, until, force
        As of `run`.
    gpu
        The GPU that networks are to run on, by its short name; None for this machine's CPU.
    price
        Of an hour, in any currency.
    """
    folder = run_folder(config, out)
    loaded = load_config(config, overrides)
    # A folder that is not there yet is not made either: what would be done in an empty one is the same everywhere.
    with nullcontext(str(folder)) if folder.is_dir() else tempfile.TemporaryDirectory() as place:
        return forecast.plan(RunContext(loaded, Path(place)), until, force, gpu, price, folder)[0]


def market(folder: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Play a run's market in its folder, write its report anew where there is one, and return market/summary.json.

    Parameters
    ----------
    folder
        The run's folder.
    overrides
        ``KEY=VALUE`` strings with dotted keys, those below ``recgen.market`` for one; what the run's configuration says of its
        market holds for the rest.

    Raises
    ------
    UserError
        If there is no such run, or its data are not simulated.
    """
    config = folder / "config.yaml"
    if not config.is_file():
        raise UserError(f"--run {folder}", found="no config.yaml in it", expected="the folder of a run")
    loaded = load_config(str(config), overrides)
    if loaded.settings.market is None:
        loaded = load_config(str(config), [*overrides, "recgen.market={}"])
    work = RunContext(loaded, folder)
    preflight.check_market(work)
    with work.workspace.lock(), logging_to(folder / "log.txt"):
        started = time.perf_counter()
        work.write_config()
        reported = (folder / "report.html").is_file()
        done = pipeline.execute(work, goals=["market", *(["report"] if reported else [])])
        _conclude(work, done, len(tasks(work)), time.perf_counter() - started)
    return json.loads((folder / "market/summary.json").read_text(encoding="utf-8"))


def _conclude(work: RunContext, done: list[str], of: int, seconds: float) -> None:
    if done:
        logger.info("%d of %d tasks done in %.0f s", len(done), of, seconds)
    else:
        logger.info("Nothing to do: everything asked for is done already in %s", work.folder)


class _LogFile(logging.FileHandler):
    """A log that goes without a line where the disk is full: the run says so itself, once."""

    def handleError(self, record: logging.LogRecord) -> None:  # logging's name
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send everything to a log file, and our own lines to the terminal as well; an error ends in the file, and knows where.

    Within another log it adds a file and leaves the terminal to the outer one.
    """
    root = logging.getLogger()
    path.parent.mkdir(parents=True, exist_ok=True)
    file, screen = _LogFile(path, encoding="utf-8"), logging.StreamHandler()
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    screen.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(file)
    within = bool(logger.handlers)
    if not within:
        logger.addHandler(screen)
    level = root.level
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)  # RecBole's pandas warnings are for the log, not for the user
    try:
        yield
    except UserError as error:
        file.handle(_line(logging.ERROR, str(error)))
        raise
    except Exception as error:
        file.handle(_line(logging.CRITICAL, "failed", error))
        error.log = path  # type: ignore[attr-defined]
        raise
    finally:
        if not within:
            logging.captureWarnings(False)
        root.setLevel(level)
        logger.removeHandler(screen)
        root.removeHandler(file)
        file.close()


def _line(level: int, text: str, error: Exception | None = None) -> logging.LogRecord:
    details = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("recgen", level, "", 0, text, None, details)
