"""Downloads the images of a list: item tokens and URLs in, a folder of images out.

What is in the folder is never fetched again, so a download that stops, however it stops, goes on with the same command.
``failed.csv`` in the folder names what did not come: what failed for now is tried again by the next start, what failed for good
(404, no image, too large) is not.
"""

from __future__ import annotations

import csv
import errno
import heapq
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TextIO

from recgen.core import progress
from recgen.core.errors import UserError, brief
from recgen.core.io import TEMPORARY, write_bytes
from recgen.core.locks import folder_lock
from recgen.core.seeding import seed_for
from recgen.data.convert.raw import rows, web_url
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import image_name
from recgen.data.download.fetching import FetchError, Limits, fetch, host_of
from recgen.data.images import ENDINGS

FAILED = "failed.csv"
_COLUMNS = ("item_id", "file", "url", "when", "reason")
_FOR_GOOD, _FOR_NOW = "for good", "for now"
_WAITING = 4_096  # images known to the schedule: the list itself may have millions
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing more can be written
_SILENT = 24  # unanswered attempts in a row after which a host is left alone


class Image(NamedTuple):
    """A row of the list; `name` is the file's, without ending."""

    item: str
    name: str
    url: str


@dataclass(order=True)
class _Job:
    ready: float
    number: int
    image: Image
    tries: int = 0


class _Host:
    """The images of one host that wait, and what is known of it."""

    def __init__(self) -> None:
        self.jobs: list[_Job] = []
        self.active = self.silent = 0
        self.ready = 0.0


class _Schedule:
    """Hands out jobs so that no host has more than its share at work, and none before its time."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}
        self._change = threading.Condition()
        self._unfinished = 0
        self._closed = False

    def add(self, host: str, job: _Job, wait: bool) -> None:
        """Add a job; with `wait` only once there are not many. A worker that waited could wait for itself."""
        with self._change:
            self._change.wait_for(lambda: not wait or self._unfinished < _WAITING or self._closed)
            self._unfinished += 1
            heapq.heappush(self._hosts.setdefault(host, _Host()).jobs, job)
            self._change.notify()

    def close(self) -> None:
        """Say that no job will be added."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def take(self) -> tuple[str, _Job] | None:
        """Wait for a job that may start; None when all are finished."""
        with self._change:
            while not self._closed or self._unfinished:
                now, soonest = time.monotonic(), None
                for name, host in self._hosts.items():
                    if not host.jobs or host.active >= self._per_host:
                        continue
                    at = max(host.ready, host.jobs[0].ready)
                    if at <= now:
                        self._hosts[name] = self._hosts.pop(name)  # the other hosts come first next time
                        host.active += 1
                        return name, heapq.heappop(host.jobs)
                    soonest = at if soonest is None else min(at, soonest)
                self._change.wait(None if soonest is None else soonest - now)
            return None

    def finish(
        self, name: str, error: FetchError | None = None, again: _Job | None = None, pause: float = 0.0
    ) -> bool:
        """Take note of the end of an attempt.

        Parameters
        ----------
        name, error
            The host, and what went wrong.
        again
            The job, where it is worth another attempt; it is put back unless the host has been silent for too long.
        pause
            Seconds before that attempt; where the server asked for them, before any other of its host too.

        Returns
        -------
        Whether the job was put back.
        """
        with self._change:
            host = self._hosts[name]
            host.active -= 1
            host.silent = host.silent + 1 if error is not None and error.silent else 0
            back = again is not None and host.silent < _SILENT
            if again is not None and back:
                again.ready = time.monotonic() + pause
                if error is not None and error.wait is not None:
                    host.ready = max(host.ready, again.ready)
                heapq.heappush(host.jobs, again)
            else:
                self._unfinished -= 1
            if host.silent >= _SILENT:
                host.jobs = [replace(job, ready=0.0) for job in host.jobs]
                heapq.heapify(host.jobs)
            if not (host.jobs or host.active or host.silent):
                del self._hosts[name]
            self._change.notify_all()
            return back

    def silent(self, name: str) -> bool:
        """Return whether a host has not answered for so long that it is left alone."""
        with self._change:
            return self._hosts[name].silent >= _SILENT


class _Failures:
    """The list of what did not come: written as it happens, tidied at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[tuple[str, str], tuple[str, ...]] = {}  # by the image's name and the URL
        if path.exists():
            with path.open(encoding="utf-8", newline="", errors="replace") as file:
                for row in csv.reader(file):
                    if len(row) == len(_COLUMNS) and row[3] in (
                        _FOR_GOOD,
                        _FOR_NOW,
                    ):  # a kill may have cut the last one
                        self._rows[row[1], row[2]] = tuple(row)
        self.tidy(set())
        self._file: TextIO = path.open("a", encoding="utf-8", errors="replace", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def hopeless(self, image: Image) -> bool:
        """Return whether this URL has failed for good before."""
        row = self._rows.get((image.name, image.url))
        return row is not None and row[3] == _FOR_GOOD

    def add(self, image: Image, error: FetchError) -> None:
        """Note a failure, on the disk too."""
        row = (image.item, image.name, image.url, _FOR_GOOD if error.for_good else _FOR_NOW, str(error))
        self._rows[image.name, image.url] = row
        self._writer.writerow(row)
        self._file.flush()

    def tidy(self, come: set[str]) -> None:
        """Write the list anew: each image and URL once, and no image that has come."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] not in come}
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *self._rows.values()])
        write_bytes(self._path, text.getvalue().encode(errors="replace"))

    def close(self, come: set[str]) -> None:
        """Leave the tidied list, or no file where nothing failed."""
        self._file.close()
        self.tidy(come)
        if not self._rows:
            self._path.unlink()


class _Download:
    """One start of a download.

    Attributes
    ----------
    counts
        How many images came, were there before, failed for now, failed for good.
    """

    def __init__(self, out: Path, limits: Limits) -> None:
        self.out, self.limits = out, limits
        self.counts: Counter[str] = Counter()
        self._schedule = _Schedule(limits.per_host)
        self._here = _names(out)
        self._failures = _Failures(out / FAILED)
        self._lock = threading.Lock()
        self._others: dict[str, list[Image]] = {}  # of each image under way, its further rows
        self._fatal: BaseException | None = None

    def run(self, images: Iterator[Image], total: int) -> None:
        """Fetch what is not there; a full disk, or an interruption, ends it with everything finished kept."""
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.limits.workers)]
        for worker in workers:
            worker.start()
        try:
            for number, image in enumerate(images):
                self._offer(number, image)
                progress.show("images", sum(self.counts.values()), total)
                if self._fatal is not None:
                    break
            self._schedule.close()
            while any(worker.is_alive() for worker in workers) and self._fatal is None:
                workers[0].join(0.2) if workers[0].is_alive() else time.sleep(0.05)
                progress.show("images", min(sum(self.counts.values()), total), total)
        finally:
            with self._lock:
                self._failures.close(self._here)
        if self._fatal is not None:
            raise self._fatal

    def _offer(self, number: int, image: Image, wait: bool = True) -> None:
        """Schedule an image that is not there; a further row of one that is under way waits for how that ends."""
        with self._lock:
            if image.name in self._others:
                self._others[image.name].append(image)
                return
        if image.name in self._here:
            self._count("there before")
        elif self._failures.hopeless(image):
            self._count(f"failed {_FOR_GOOD}")
        else:
            try:
                if image_name(image.name) != image.name:
                    raise FetchError("not a plain file name", for_good=True)
                host = host_of(image.url, self.limits.allow_private)
            except FetchError as error:
                self._failed(image, error)
                return
            with self._lock:
                self._others[image.name] = []
            self._schedule.add(host, _Job(0.0, number, image), wait)

    def _over(self, job: _Job) -> None:
        """Offer the further rows of an image whose first one is over: other URLs to try, or counted where it has come."""
        with self._lock:
            rest = self._others.pop(job.image.name, [])
        for image in rest:
            self._offer(job.number, image, wait=False)

    def _work(self) -> None:
        try:
            while (taken := self._schedule.take()) is not None:
                self._attempt(*taken)
        except BaseException as error:  # a full disk, say: nothing more can be done
            self._fatal = error
            self._schedule.close()

    def _attempt(self, host: str, job: _Job) -> None:
        job.tries += 1
        try:
            if self._schedule.silent(host):
                raise FetchError(f"its host did not answer {_SILENT} times in a row", silent=True)
            self._fetch(job.image)
        except FetchError as error:
            pause = self._pause(job, error)
            if not self._schedule.finish(host, error, job if pause is not None else None, pause or 0.0):
                self._failed(job.image, error)
                self._over(job)
        else:
            with self._lock:
                self._here.add(job.image.name)
            self._count("fetched")
            self._schedule.finish(host)
            self._over(job)

    def _fetch(self, image: Image) -> None:
        """Fetch an image; whatever is raised is this URL's failure, unless nothing more can be written."""
        try:
            fetch(image.url, self.out, image.name, self.limits)
        except FetchError:
            raise
        except Exception as error:  # a server can bring any library to raise anything
            if isinstance(error, OSError) and error.errno in _FATAL:
                raise
            raise FetchError(brief(error), for_good=True) from error

    def _pause(self, job: _Job, error: FetchError) -> float | None:
        """Return the seconds before another attempt, None where there is to be none in this run."""
        if error.for_good or job.tries >= self.limits.tries:
            return None
        if error.wait is not None:
            return error.wait if error.wait <= self.limits.longest_pause else None
        # between half and all of it, so that images that failed together do not come back together
        spread = seed_for(job.tries, "pause of a download", item=job.image.name) / 2**63
        return self.limits.pause * 2 ** (job.tries - 1) * (0.5 + 0.5 * spread)

    def _failed(self, image: Image, error: FetchError) -> None:
        with self._lock:
            self._failures.add(image, error)
        self._count(f"failed {_FOR_GOOD if error.for_good else _FOR_NOW}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def download(urls: Path, out: Path, limits: Limits | None = None) -> Counter[str]:
    """Fetch the images of a list into a folder.

    Parameters
    ----------
    urls
        A CSV or Parquet file with the columns item_id and url, and optionally file: the image's name without ending,
        where it is not the item's token. A URL without a scheme, as in POG, is taken as http.
    out
        The folder; nothing is written elsewhere. Images are named by `file` and the ending of what they are.
    limits
        What the download may cost.

    Returns
    -------
    How many were "fetched", "there before", "failed for now" and "failed for good"; the last two stand in ``failed.csv``.

    Raises
    ------
    UserError
        When the list cannot be read, or another download is at work in the folder.
    """
    if not urls.is_file():
        raise UserError(
            f"--urls {urls}", found="no such file", expected="a CSV or Parquet file with item_id and url"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}", found="a file", expected="a folder, or a name that is free")
    out.mkdir(parents=True, exist_ok=True)
    with folder_lock(out, "image folder"):
        for left in out.glob(f"{TEMPORARY}*"):
            left.unlink()
        total = sum(1 for _ in _images(urls))
        work = _Download(out, limits or Limits())
        work.run(_images(urls), total)
    return work.counts


def summary(counts: Counter[str], out: Path) -> str:
    """Return the line that the command prints."""
    line = f"{out}: " + (
        ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "nothing to fetch"
    )
    if counts[f"failed {_FOR_NOW}"]:
        line += f"\nThe same command tries again what failed for now; {out / FAILED} says why."
    elif counts[f"failed {_FOR_GOOD}"]:
        line += f"\n{out / FAILED} says why; delete it to try those again."
    return line


def _images(urls: Path) -> Iterator[Image]:
    for _, row in rows(urls, Tally(), ["item_id", "url"], "images"):
        item, url = row["item_id"].strip(), row["url"].strip()
        yield Image(item, row.get("file", "").strip() or image_name(item), web_url(url) or url)


def _names(folder: Path) -> set[str]:
    """Return the names, without ending, of the images in a folder; an empty file is none, it is what a power cut leaves."""
    with os.scandir(folder) as entries:
        found = (os.path.splitext(entry.name) for entry in entries if entry.stat().st_size)
        return {stem for stem, ending in found if ending in ENDINGS and not stem.startswith(".")}
