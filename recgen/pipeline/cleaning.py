"""What a run's folder holds that no task of its configuration has on record: found first, and deleted only when asked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import TEMPORARY, read_json
from recgen.pipeline import tasks as work
from recgen.pipeline.context import RunContext

_OF_TASKS = (
    "creatives/images",
    "creatives/shards",
    "generator",
    "ranker",
    "downstream",
    "evaluation",
    "features",
)
_SCRATCH = "recbole"  # tables that RecBole read, and its checkpoints: written again by whoever needs them


@dataclass(frozen=True)
class Leftover:
    """A file that can go, relative to the run's folder, with its bytes and why."""

    path: str
    size: int
    why: str


def leftovers(folder: Path) -> list[Leftover]:
    """Return the files of a finished run that can go, in order of their paths; delete nothing.

    Raises
    ------
    UserError
        If the folder is no run's.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "stages").is_dir():
        raise UserError(f"--run {folder}", found="no config.yaml and stages in it", expected="a run's folder")
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    if run.workspace.home is not None:
        raise UserError(
            f"--run {folder}",
            found=f"the working folder of a run at {run.workspace.home.url}",
            expected="a run of this machine alone",
            todo="Delete the folder to free its disk; the URL has all that is finished.",
        )
    tasks = work.tasks(run)
    names = {task.name.replace("/", ".") for task in tasks}
    owned = tuple(f"{place}/" for task in tasks for place in task.owns) + tuple(
        place for task in tasks for place in task.owns
    )
    kept, former = _outputs(folder, names)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and (why := _why(name, kept | former, former, owned)):
            found[name] = Leftover(name, path.stat().st_size, why)
    for record in sorted((folder / "stages").glob("*.json")):
        if record.stem not in names:
            name = str(record.relative_to(folder))
            found[name] = Leftover(
                name, record.stat().st_size, "the record of a task that the configuration has no more"
            )
    return [found[name] for name in sorted(found)]


def _outputs(folder: Path, names: set[str]) -> tuple[set[str], set[str]]:
    """Return the outputs on record of the configuration's tasks, and those of tasks that it has no more."""
    kept: set[str] = set()
    former: set[str] = set()
    for record in (folder / "stages").glob("*.json"):
        outputs = (read_json(record) or {}).get("outputs", [])
        (kept if record.stem in names else former).update(map(str, outputs))
    return kept, former - kept


def _why(name: str, recorded: set[str], former: set[str], owned: tuple[str, ...]) -> str:
    if Path(name).name.startswith(TEMPORARY):
        return "was being written when a run was stopped"
    if name.split("/")[0] == _SCRATCH:
        return "RecBole's own copies, made again when needed"
    mine = name in owned or name.startswith(tuple(place for place in owned if place.endswith("/")))
    if name in former and not mine:
        return "of a task that the configuration has no more"
    if name not in recorded and not mine and any(name.startswith(f"{room}/") for room in _OF_TASKS):
        return "of no task of the configuration"
    return ""


def delete(folder: Path, files: list[Leftover]) -> None:
    """Delete leftovers, and the folders that are empty then."""
    for leftover in files:
        (folder / leftover.path).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def everything(folder: Path) -> list[Leftover]:
    """Return every file of a run's folder, as `leftovers` does."""
    leftovers(folder)  # so that no other folder is taken for a run's
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [Leftover(str(path.relative_to(folder)), path.stat().st_size, "the whole run") for path in paths]


def delete_all(folder: Path) -> None:
    """Delete a run's folder."""
    shutil.rmtree(folder)


def listed(files: list[Leftover], folder: Path) -> str:
    """Return what would be deleted, by reason: number of files, MiB, and the first few."""
    if not files:
        return f"{folder}: nothing to delete"
    lines = []
    for why in dict.fromkeys(leftover.why for leftover in files):
        own = [leftover for leftover in files if leftover.why == why]
        size = sum(leftover.size for leftover in own) / 2**20
        lines.append(f"  {len(own):,} files, {size:,.1f} MiB: {why}")
        lines += [f"    {leftover.path}" for leftover in own[:3]]
        lines += [f"    and {len(own) - 3:,} more"] if len(own) > 3 else []
    return "\n".join([f"{folder}: would delete", *lines])
