"""From a folder to a configuration that runs, and what a run of it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from recgen.core.errors import UserError
from recgen.core.io import write_bytes
from recgen.pipeline import session
from recgen.starter.found import look
from recgen.starter.prepared import Prepared, prepare
from recgen.starter.template import configuration

_PHOTOGRAPHS = (
    "The small models that are shipped see and draw a renderer's symbols, not photographs: a first run shows that the data are "
    "right. For images that mean something give it real weights, as comments in the configuration say."
)


def init(folder: Path, out: Path, images: Path | None = None) -> str:
    """Write ``<out>/<name>.yaml`` for a folder, and the data set under ``<out>/data``; return what was done, and what to do next.

    Parameters
    ----------
    folder
        Of tables or atomic files, and perhaps images.
    out
        Where the configuration and the data set go.
    images
        A folder or zip of images named by item id; looked for in `folder` where it is None.

    Raises
    ------
    UserError
        If the folder does not hold what a run needs, or the configuration is there already.
    """
    found = look(folder, images)
    path = out / f"{folder.resolve().name}.yaml"
    if path.exists():
        raise UserError(
            f"recgen init {folder}",
            found=f"{path}",
            expected="a name that is free",
            todo="Move it away, or give --out.",
        )
    made = prepare(found, out / "data")
    write_bytes(path, configuration(made, _interactions(made), str(folder)).encode())
    plan = session.plan(str(path), str(out / "runs" / path.stem))
    told = [*found.lines(), *([made.summary] if made.summary else [])]
    shown = [] if made.images == "rendered" else [_PHOTOGRAPHS]
    return "\n".join(
        [*told, f"{path}: a configuration", *shown, plan.line(), f"Run it with: recgen run --config {path}"]
    )


def estimate(folder: Path) -> str:
    """Return a line on what a quick run on a prepared data set takes here, for `recgen data prepare`."""
    made = Prepared(folder, str(folder / "images"), None, [], 4.0)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "quick.yaml"
        path.write_text(configuration(made, _interactions(made), str(folder)), encoding="utf-8")
        return f"A first run, of preset quick on the shipped models: {session.plan(str(path)).line()}"


def _interactions(made: Prepared) -> int:
    """Return the rows of the data set's atomic file of interactions; 0 where there is none."""
    path = made.folder / f"{made.folder.name}.inter"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b"")) - 1
