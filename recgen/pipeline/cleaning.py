"""What a run's folder or URL holds that no task of its configuration has on record: found first, and deleted only when asked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import TEMPORARY, read_json
from recgen.core.remote import is_url
from recgen.pipeline import tasks as work
from recgen.pipeline.context import RunContext
from recgen.pipeline.home import Home, folder_of, local
from recgen.pipeline.workspace import Workspace

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
    """A file that can go, by its name below the run's folder or URL, with its bytes and why."""

    path: str
    size: int
    why: str


def leftovers(place: str) -> list[Leftover]:
    """Return the files of a finished run that can go, in order of their names; delete nothing.

    Parameters
    ----------
    place
        The run's folder or URL. Of an URL what is there is listed, and nothing but the configuration is fetched.

    Raises
    ------
    UserError
        If there is no run.
    """
    run, sizes, records = _read(place)
    tasks = work.tasks(run)
    names = {task.name.replace("/", ".") for task in tasks}
    owned = tuple(f"{place}/" for task in tasks for place in task.owns) + tuple(
        place for task in tasks for place in task.owns
    )
    kept, former = _outputs(records, names)
    found = {
        name: Leftover(name, size, why)
        for name, size in sizes.items()
        if (why := _why(name, kept | former, former, owned))
    }
    for stem in records.keys() - names:
        name = f"stages/{stem}.json"
        found[name] = Leftover(name, sizes[name], "the record of a task that the configuration has no more")
    return [found[name] for name in sorted(found)]


def _read(place: str) -> tuple[RunContext, dict[str, int], dict[str, Mapping[str, Any]]]:
    """Return a run, the bytes of its files by their names, and its records by their tasks.

    Raises
    ------
    UserError
        If there is no run; its configuration is read, so that nothing else is taken for one.
    """
    folder = local(place, ["config.yaml"])
    sizes, records = _contents(place, folder)
    return RunContext(load_config(str(folder / "config.yaml")), folder), sizes, records


def _folder(place: str) -> Path:
    """Return the run's folder on this machine, of one at an URL where it is worked on."""
    return folder_of(place) if is_url(place) else Path(place)


def _contents(place: str, folder: Path) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]]:
    """Return the bytes of a run's files by their names, and its records by their tasks.

    Raises
    ------
    UserError
        If there is no run, or the folder is where a run at an URL is worked on.
    """
    home = Home.of(folder)
    if is_url(place):
        assert home is not None
        return home.contents()
    if not (folder / "config.yaml").is_file() or not (folder / "stages").is_dir():
        raise UserError(f"--run {place}", found="no config.yaml and stages in it", expected="a run's folder")
    if home is not None:
        raise UserError(
            f"--run {place}",
            found=f"the working folder of a run at {home.url}",
            expected="a run's folder, or its URL",
            todo=f"To free this disk delete the folder, of which the URL has all that is finished; else --run {home.url}.",
        )
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    return sizes, {path.stem: read_json(path) or {} for path in (folder / "stages").glob("*.json")}


def _outputs(records: Mapping[str, Mapping[str, Any]], names: set[str]) -> tuple[set[str], set[str]]:
    """Return the outputs on record of the configuration's tasks, and those of tasks that it has no more."""
    kept: set[str] = set()
    former: set[str] = set()
    for task, record in records.items():
        (kept if task in names else former).update(map(str, record.get("outputs", [])))
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


def everything(place: str) -> list[Leftover]:
    """Return every file of a run, as `leftovers` does."""
    _, sizes, _ = _read(place)
    return [Leftover(name, sizes[name], "the whole run") for name in sorted(sizes, key=_last_config)]


def _last_config(name: str) -> tuple[int, str]:
    """Put records first, so that no task counts as finished without its files, and last what a run is known by."""
    return (0 if name.startswith("stages/") else 2 if name == "config.yaml" else 1), name


def delete(place: str, files: Sequence[Leftover], whole: bool = False) -> None:
    """Delete files of a run, with the folders that are empty then.

    Parameters
    ----------
    place
        The run's folder or URL.
    files
        What `leftovers` or `everything` found.
    whole
        Whether they are the whole run, whose folder goes as well; of one at an URL the local working folder too.

    Raises
    ------
    UserError
        If a process or another machine is at work on the run.
    """
    folder = _folder(place)
    names = [leftover.path for leftover in files]
    workspace = Workspace(folder)
    with workspace.cleaning(names) if is_url(place) else workspace.lock():
        if whole:
            shutil.rmtree(folder)
            return
        for name in names:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def listed(files: Sequence[Leftover], place: str) -> str:
    """Return what would be deleted, by reason: number of files, MiB, and the first few."""
    if not files:
        return f"{place}: nothing to delete"
    lines = []
    for why in dict.fromkeys(leftover.why for leftover in files):
        own = [leftover for leftover in files if leftover.why == why]
        size = sum(leftover.size for leftover in own) / 2**20
        lines.append(f"  {len(own):,} file{'s' if len(own) != 1 else ''}, {size:,.1f} MiB: {why}")
        lines += [f"    {leftover.path}" for leftover in own[:3]]
        lines += [f"    and {len(own) - 3:,} more"] if len(own) > 3 else []
    return "\n".join([f"{place}: would delete", *lines])
