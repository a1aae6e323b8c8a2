"""What the commands call: a run from its lock to its last line, and the report of a finished one."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

from recgen import pipeline
from recgen.config import load_config
from recgen.errors import UserError
from recgen.run import Run

logger = logging.getLogger("recgen")


def run(
    config: str, out: str | None, overrides: Iterable[str], until: str | None = None, force: str | None = None
) -> None:
    """Run a configuration in its folder and say what was done and where the report is."""
    loaded = load_config(config, overrides)
    folder = Path(out) if out is not None else Path("runs") / loaded.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", found="a file", expected="a folder, or a name that is free")
    work = Run(loaded, folder)
    with work.workspace.lock():
        log_to(folder / "log.txt")
        started = time.perf_counter()
        work.write_config()
        done = pipeline.execute(work, until, force)
        _conclude(work, done, time.perf_counter() - started)


def _conclude(work: Run, done: list[str], seconds: float) -> None:
    if done:
        logger.info("%d of %d tasks done in %.0f s", len(done), len(pipeline.tasks(work)), seconds)
    else:
        logger.info("Nothing to do: everything asked for is done already in %s", work.folder)
    report_file = work.folder / "report.html"
    if report_file.exists():
        logger.info("Report: %s", report_file)


def report(work: Run) -> list[Path]:
    """The report stage: write report.html and return its path."""
    from recgen.report import write_report

    return [write_report(work.folder, gallery=work.settings.gallery)]


def report_again(folder: str) -> Path:
    """Write the report of a run's folder anew and return its path."""
    from recgen.report import write_report

    if not (Path(folder) / "metrics.json").is_file():
        raise UserError(f"--run {folder}", found="no metrics.json", expected="the folder of a run that was evaluated")
    return write_report(Path(folder))


def simulate(out: str, users: int, items: int, seed: int) -> str:
    """Make a simulated data set and return a line that says what it is."""
    from recgen.data.simulator import simulate as make

    made = make(Path(out), users, items, seed)
    return f"{out}: {len(made.user_ids)} users, {len(made.item_ids)} items, and the truth about them in {out}/simulator"


def log_to(path: Path) -> None:
    """Send everything to a log file, and our own lines to the terminal as well."""
    root = logging.getLogger()
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root.addHandler(file)
    root.setLevel(logging.INFO)
    terminal = logging.StreamHandler()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(terminal)
    logging.captureWarnings(True)  # RecBole's pandas warnings are for the log, not for the user
    warnings.simplefilter("default")


def log_path() -> Path | None:
    """Return the log file in use."""
    files = (handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler))
    return next((Path(handler.baseFilename) for handler in files), None)
