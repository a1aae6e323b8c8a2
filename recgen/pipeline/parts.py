"""Creatives drawn in parts by processes that know nothing of each other, on one machine or many that share a disk or an URL.

A part draws every n-th chunk of each generator and control. It shares the run's folder with other parts, and keeps runs out. Of a
run at an URL each works in a folder of its own, and takes each chunk to the URL as it is drawn.
`collect` then records what is drawn and joins it, so that a run goes on as if it had drawn everything itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import read_json, write_json
from recgen.core.machine import Held, try_lock
from recgen.core.remote import is_url
from recgen.pipeline import pipeline, preflight, records
from recgen.pipeline.context import RunContext
from recgen.pipeline.home import PARTS, Home, folder_of
from recgen.pipeline.session import logging_to, run_folder
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import tasks

logger = logging.getLogger("recgen")


@dataclass(frozen=True)
class Part:
    """One of so many parts, counted from 1.

    >>> Part.parse("3/64")
    Part(index=3, of=64)
    """

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``index/of``.

        Raises
        ------
        UserError
            If it is none.
        """
        first, _, last = text.partition("/")
        if first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
            return cls(int(first), int(last))
        todo = "Parts are counted from 1: an index that begins at 0 has to be raised by 1."
        raise UserError("--part", found=repr(text), expected="two whole numbers such as 3/64", todo=todo)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def file(self) -> str:
        """Its name among files."""
        return f"{self.index}-of-{self.of}"


def generate(config: str, part: Part, out: str | None = None, overrides: Iterable[str] = ()) -> str:
    """Draw one part of a run's creatives in its folder, and return a line that says what was drawn.

    Parameters
    ----------
    config, out, overrides
        As of `recgen.pipeline.session.run`.
    part
        Which part.

    Raises
    ------
    UserError
        If the run is not as far, if it is at work, or another process at the same part.
    """
    folder = folder_of(out, part.file) if out is not None and is_url(out) else run_folder(config, out)
    loaded = load_config(config, overrides)
    _check_folder(folder)
    work, place = RunContext(loaded, folder), folder / PARTS
    place.mkdir(exist_ok=True)
    with work.workspace.sharing(part.file), _alone(place, part), logging_to(place / f"{part.file}.txt"):
        started, record = time.perf_counter(), place / f"{part.file}.json"
        write_json(record, {"index": part.index, "of": part.of, "finished": False})
        work.workspace.publish([record])
        drawn, waiting = _draw(work, part)
        seconds = round(time.perf_counter() - started, 3)
        write_json(record, {"index": part.index, "of": part.of, "finished": True, "seconds": seconds})
        work.workspace.publish([record])
    later = f"; {', '.join(waiting)}: after recgen collect" if waiting else ""
    return f"{folder}: part {part} is drawn, {drawn} chunks of it now, in {seconds:.0f} s{later}"


def collect(config: str, out: str | None = None, overrides: Iterable[str] = ()) -> str:
    """Join what parts have drawn to the run's manifest, and return a line that says how many creatives there are.

    Raises
    ------
    UserError
        If something is not drawn yet; the message names the parts. Parts at work keep it out.
    """
    folder = run_folder(config, out)
    loaded = load_config(config, overrides)
    _check_folder(folder)
    work = RunContext(loaded, folder)
    with work.workspace.lock(), logging_to(folder / "log.txt"):
        work.write_config()
        left = _recorded(work)
        if left:
            raise _missing(folder, left)
        pipeline.execute(work, goals=["generate"])
        work.workspace.remove([f"{PARTS}{record.name}" for record in (folder / PARTS).glob("*.json")])
    return f"{folder}: {_count(work)} creatives in creatives/manifest.parquet"


def _draw(work: RunContext, part: Part) -> tuple[int, list[str]]:
    """Draw a part of everything whose sources are drawn; return how many chunks it was, and the names of what has to wait."""
    left = _unfinished(work)
    names = {task.name for task, _ in left}
    preflight.check(work, {"generate"} if left else set())
    drawn, waiting = 0, []
    for task, fingerprint in left:
        if names & set(task.after):
            waiting.append(str(task.arguments[0]))
            continue
        for name in work.workspace.join(task.name, fingerprint, task.owns):
            logger.warning("%s: %s is damaged or gone, and is made again", task.name, name)
        work.models.release(*records.models(work, task))
        work.prepare_torch()
        draw = resolve_name("recgen.stages.chunks:draw_part")
        drawn += draw(work, *task.arguments, part.index, part.of)
    return drawn, waiting


def _recorded(work: RunContext) -> dict[str, list[int]]:
    """Record every task whose chunks are all drawn; return the numbers of the chunks that are not, by task.

    What takes its images from such a task is left for another time: what it has to draw is not known yet.
    """
    left: dict[str, list[int]] = {}
    for task, fingerprint in _unfinished(work):
        if left.keys() & set(task.after):
            continue
        work.workspace.begin(task.name, fingerprint, task.owns)
        undrawn: list[int] = resolve_name("recgen.stages.chunks:left_to_draw")(work, *task.arguments)
        if undrawn:
            left[task.name] = undrawn
        else:
            pipeline.execute(work, goals=[task.name])
    return left


def _unfinished(work: RunContext) -> list[tuple[Task, str]]:
    """Return the tasks that draw creatives and are not finished, with their fingerprints.

    Raises
    ------
    UserError
        Where something that comes before them is not finished.
    """
    everything = tasks(work)
    drawing = [task for task in everything if task.stage == "generate" and task.arguments]
    names = {task.name for task in drawing}
    prints = pipeline.fingerprints(everything, work.settings.seed)
    wanted = pipeline.needed(everything, names)
    left = [name for name in prints if name in wanted and not work.workspace.finished(name, prints[name])]
    before = [name for name in left if name not in names]
    if before:
        raise UserError(
            f"run folder {work.folder}",
            found=f"{', '.join(before)} not done, or done with other settings",
            expected="a run of this configuration whose generators are fitted",
            todo="recgen run --until generator.fit with the same arguments first.",
        )
    return [(task, prints[task.name]) for task in drawing if task.name in left]


def _check_folder(folder: Path) -> None:
    home = Home.of(folder)
    if not ((folder / "stages").is_dir() if home is None else home.is_begun()):
        raise UserError(
            f"run folder {folder}" if home is None else f"--out {home.url}",
            found="no finished task in it",
            expected="a run whose generators are fitted",
            todo="recgen run --until generator.fit with the same arguments first.",
        )


def _missing(folder: Path, left: dict[str, list[int]]) -> UserError:
    """Return the error that names the parts of chunks that are not drawn."""
    records = [read_json(path) or {} for path in sorted((folder / PARTS).glob("*.json"))]
    found = {(record.get("index"), record.get("of")): bool(record.get("finished")) for record in records}
    chunks = sum(map(len, left.values()))
    said = []
    for of in sorted({of for _, of in found if isinstance(of, int)}):
        indices = sorted({number % of + 1 for numbers in left.values() for number in numbers})
        states = {True: "has ended", False: "stopped before its end", None: "never started"}
        said += [f"{index}/{of} {states[found.get((index, of))]}" for index in indices]
    parts = f"; part {', part '.join(said)}" if said else "; no part has been started"
    return UserError(
        f"run folder {folder}",
        found=f"{chunks} chunks of {', '.join(name.removeprefix('generate/') for name in left)} not drawn{parts}",
        expected="every part drawn",
        todo="Start these parts again, which draw only what is missing; then collect again.",
    )


def _count(work: RunContext) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(work.folder / "creatives/manifest.parquet").num_rows)


@contextmanager
def _alone(place: Path, part: Part) -> Iterator[None]:
    """Keep a second process from the same part."""
    try:
        with try_lock(place / f"{part.file}.lock"):
            yield
    except Held as error:
        raise UserError(
            f"--part {part}", found="a process that draws it", expected="one process a part"
        ) from error
