"""What the commands call: a run from its lock to its last line, and the report of a finished one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.cache import ArtifactCache
from recgen.pipeline.context import RunContext

logger = logging.getLogger("recgen")


def run(
    config: str,
    out: str | None,
    overrides: Iterable[str],
    until: str | None = None,
    force: str | None = None,
    share: bool = False,
) -> None:
    """Run a configuration in its folder and say what was done and where the report is.

    With `share`, what runs beside this folder have finished is taken over from them.
    """
    folder = Path(out) if out is not None else Path("runs") / Path(config).stem
    loaded = load_config(config, overrides)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", found="a file", expected="a folder, or a name that is free")
    work = RunContext(loaded, folder)
    with work.workspace.lock(), logging_to(folder / "log.txt"):
        started = time.perf_counter()
        work.write_config()
        siblings = ArtifactCache(folder.resolve().parent) if share else None
        done = pipeline.execute(work, until, force, siblings=siblings)
        _conclude(work, done, time.perf_counter() - started)
        if until in (None, "report"):
            logger.info("Report: %s", folder / "report.html")


def _conclude(work: RunContext, done: list[str], seconds: float) -> None:
    if done:
        logger.info("%d of %d tasks done in %.0f s", len(done), len(pipeline.tasks(work)), seconds)
    else:
        logger.info("Nothing to do: everything asked for is done already in %s", work.folder)


def report(work: RunContext) -> list[Path]:
    """The report stage: write report.html and return its path."""
    from recgen.report import build

    return [build(work.folder)]


def report_again(folder: str, compare: Iterable[str]) -> Path:
    """Write the report of a run's folder anew, with other runs beside it, and return its path."""
    from recgen.report import build

    return build(Path(folder), [Path(other) for other in compare])


def simulate(out: str, users: int, items: int, seed: int) -> str:
    """Make a simulated data set and return a line that says what it is."""
    from recgen.data.simulation.simulator import simulate as make

    made = make(Path(out), users, items, seed)
    return f"{out}: {len(made.user_ids)} users, {len(made.item_ids)} items, and the truth about them in {out}/simulator"


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send everything to a log file, and our own lines to the terminal as well; an error ends in the file, and knows where.

    Within another log it adds a file and leaves the terminal to the outer one.
    """
    root = logging.getLogger()
    path.parent.mkdir(parents=True, exist_ok=True)
    file, screen = logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()
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
