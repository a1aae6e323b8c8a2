"""Images made elsewhere: what another program is asked for, and the same evaluation for what it made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from recgen.core.errors import UserError
from recgen.core.io import write_bytes
from recgen.core.remote import on_this_machine
from recgen.pipeline import session
from recgen.runs import open_run

FILES = ("requests.csv", "items.csv", "interactions.csv")
_NAME = re.compile(r"[\w-]{1,64}")


def write_requests(config: str, to: str, out: str | None, overrides: Iterable[str]) -> str:
    """Write what a run asks for as tables for another program, and return a line that says what they are.

    Parameters
    ----------
    config, out, overrides
        As of `recgen run`, which is done up to its dataset stage.
    to
        The folder for the tables.

    Notes
    -----
    ``requests.csv`` has a row for each image that is asked for: user_id, item_id, seed, and the history, the item tokens that
    the user liked before, oldest first, as a JSON list. ``items.csv`` has every item's text and where its image is.
    ``interactions.csv`` is what a generator may learn from: it holds no interaction that an image is asked for.
    """
    import pandas as pd

    on_this_machine(
        "--to", to, "Write the tables into a folder, and copy that to the URL; --out may be at an URL."
    )
    folder = session.run_folder(config, out)
    session.run(config, str(folder), overrides, until="dataset")
    run = open_run(str(folder))
    rows = [(r.user_id, r.item_id, r.seed, json.dumps(r.history, ensure_ascii=False)) for r in run.requests]
    found = (run.image(path) for path in run.items["image"])
    images = ["" if path is None else str(path.resolve()) for path in found]
    known = run.interactions[run.interactions["split"] != "test"]
    tables = (
        pd.DataFrame(rows, columns=["user_id", "item_id", "seed", "history"]),
        run.items[["item_id", "text"]].assign(image=images),
        known[["user_id", "item_id", "rating", "timestamp", "like"]],
    )
    for name, table in zip(FILES, tables, strict=True):
        write_bytes(Path(to) / name, table.to_csv(index=False).encode())
    return (
        f"{to}: {len(rows)} images are asked for in requests.csv; put them into a folder with a manifest.csv of user_id, "
        f"item_id and path, then: recgen evaluate --config {config} --creatives FOLDER"
    )


def evaluate(config: str, creatives: Sequence[str], out: str | None, overrides: Iterable[str]) -> Path:
    """Run a configuration with folders of images in place of its generators, and return the run's folder.

    Parameters
    ----------
    config, overrides
        As of `recgen run`.
    creatives
        Folders with a manifest, as `generators.folder` reads them: DIR, called after the folder, or NAME=DIR.
    out
        The run's folder; by default one of its own, called after the configuration and the images. What runs beside it have
        done already, the configuration's own for one, is taken from them and not done again.

    Raises
    ------
    UserError
        For a name that cannot be one, and before anything is trained for an image that is missing or broken.
    """
    folders = dict(_named(each) for each in creatives)
    if len(folders) < len(creatives):
        raise UserError(
            "--creatives", found="two folders of one name", expected="NAME=DIR with names that differ"
        )
    blocks = [
        f"recgen.{name}={json.dumps({'generator': 'folder', 'path': path})}" for name, path in folders.items()
    ]
    ours = [f"recgen.generators={json.dumps(list(folders))}", *blocks]
    beside = session.run_folder(config, None).with_name(f"{Path(config).stem}-{'-'.join(folders)}")
    return session.run(config, str(beside) if out is None else out, [*ours, *overrides], share=True)


def _named(given: str) -> tuple[str, str]:
    """Return the name and the path of a folder of images."""
    from recgen.config import plugins
    from recgen.config.schema import Settings

    named, equals, path = given.partition("=")
    name, path = (named, path) if equals else (Path(given).resolve().name, given)
    taken = {*Settings.model_fields, *plugins.names(plugins.GENERATORS), "ORI"}
    if not _NAME.fullmatch(name) or name in taken:
        raise UserError(
            f"--creatives {given}",
            found=f"{name!r} as their name" + (", which stands for something else" if name in taken else ""),
            expected="a name of letters, digits, - and _",
            todo="Give one: --creatives NAME=DIR.",
        )
    if not Path(path).is_dir():
        raise UserError(
            f"--creatives {given}", found=f"no folder {path}", expected="a folder of images with a manifest"
        )
    return name, path
