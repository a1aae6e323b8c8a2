"""Writes a finished run as a RecBole data set: what its ranking models learned from, and features with creatives mixed in.

The folder holds atomic files, one feature file per modality for RecBole's own `additional_feat_suffix`, the same features as
arrays that can be memory-mapped, and two YAMLs that read the one or the other. RecBole parses feature files as text into
float64, row by row; where there are many items the arrays are the better carrier.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recgen.core import provenance
from recgen.core.errors import UserError, nearest
from recgen.core.io import flush
from recgen.core.progress import show
from recgen.core.remote import on_this_machine
from recgen.data.catalogue import IMAGE_FIELD
from recgen.data.shards import read_file
from recgen.metrics.comparison import ORIGINAL
from recgen.pipeline.context import RunContext
from recgen.runs import open_run
from recgen.stages.downstream import mixed
from recgen.stages.gate import accepted
from recgen.stages.generate import creatives, is_drawn
from recgen.stages.groups import drawn_requests

SPLITS = ("train", "valid", "test")


def export(
    folder: str,
    to: str,
    name: str,
    source: str | None = None,
    images: bool = False,
    everything: bool = False,
) -> str:
    """Write the data set `name` into the folder `to` and return a line that says what it is.

    Parameters
    ----------
    folder
        A run's folder, finished at least up to gate, or where all creatives are taken up to generate.
    to
        What RecBole calls `data_path`.
    name
        The data set's name.
    source
        Whose images the image features show, mixed in as the downstream stage does: a generator of the run, or ORI for the
        originals. None is the run's only generator.
    images
        Whether to copy the creatives too, with a manifest of user_id, item_id, path and recipe_sha256; each file says inside that
        a model drew it, and by which recipe (`recgen.core.provenance`).
    everything
        Whether to take the creatives that the run's gate refused as well.

    Raises
    ------
    UserError
        If there is no such run or source, if its creatives are not all there, or if the data set's folder is there already.
    """
    on_this_machine(
        "--to",
        to,
        "RecBole reads folders: export into one, and copy that to the URL; --run may be at an URL.",
    )
    _check_name(to, name)
    run = open_run(folder)
    with run.workspace.reading():
        source = _source(run, source)
        shown = _shown(run, source, everything)
        if images and source == ORIGINAL:
            raise UserError(
                "--images", found="source ORI", expected="a generator, whose creatives are copied"
            )
        # Written beside its place and moved there when it is whole.
        draft = Path(to) / f".tmp-{name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write(run, draft, Path(to).resolve(), name, source, shown, images)
        flush()
        draft.rename(Path(to) / name)
    made = Path(to) / name
    taken = (
        ""
        if shown is None
        else f" ({int(shown.sum())} of {len(shown)} creatives, those that the gate accepts)"
    )
    return f"{made}: {len(run.items)} items with the images of {source}{taken}; read it by {name}.yaml or {name}-arrays.yaml"


def _check_name(to: str, name: str) -> None:
    if not name or Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name}", found=repr(name), expected="a data set's name, without slashes")
    if (Path(to) / name).exists():
        raise UserError(
            f"--to {to} --name {name}",
            found=f"{Path(to) / name} already there",
            expected="a name that is free",
            todo="Give another name, or delete that folder.",
        )


def _source(run: RunContext, source: str | None) -> str:
    """Return the source that is meant, after checking that its creatives are all there."""
    made = run.settings.generators
    known = [ORIGINAL, *made]
    if source is None and len(made) > 1:
        raise UserError("--source", found="none", expected=f"one of {', '.join(known)}")
    source = source or made[0]
    if source not in known:
        raise UserError(
            f"--source {source}",
            found="no such source",
            expected=", ".join(known),
            todo=nearest(source, known),
        )
    for needed in ("dataset/requests.parquet", "features/image.safetensors"):
        if not (run.folder / needed).is_file():
            raise _unfinished(run, f"no {needed}")
    if source != ORIGINAL:
        tables = list((run.folder / f"creatives/shards/{source}").glob("*.parquet"))
        found = sum(len(pd.read_parquet(table, columns=["item_id"])) for table in tables)
        if found != len(drawn_requests(run, source)):
            raise _unfinished(run, f"{found} of {len(drawn_requests(run, source))} creatives of {source}")
    return source


def _shown(run: RunContext, source: str, everything: bool) -> np.ndarray | None:
    """Return which of the source's creatives the gate accepts, bool ``[n]``; None where all are taken."""
    if everything or source == ORIGINAL or run.settings.gate is None:
        return None
    if not (run.folder / f"gate/{source}.parquet").is_file():
        done = (run.folder / "metrics.json").is_file()
        if done and not run.workspace.record(f"gate/{source}").exists():
            return None  # finished by a version that had no gate
        raise _unfinished(run, f"no gate/{source}.parquet", "gate", " Or take all creatives, unasked: --all.")
    return accepted(run, source)


def _unfinished(run: RunContext, found: str, stage: str = "generate", or_else: str = "") -> UserError:
    return UserError(
        f"--run {run.folder}",
        found=found,
        expected=f"a run that is finished up to {stage}",
        todo=f"Run it first: recgen run --config ... --until {stage}.{or_else}",
    )


def _write(
    run: RunContext,
    folder: Path,
    data_path: Path,
    name: str,
    source: str,
    shown: np.ndarray | None,
    images: bool,
) -> None:
    keys = run.recbole_keys(run.settings.ranker.judge)
    inter = _interactions(run, keys, folder / name)
    for ending, field, known in (
        ("item", keys.get("ITEM_ID_FIELD", "item_id"), run.items["item_id"]),
        ("user", keys.get("USER_ID_FIELD", "user_id"), run.interactions["user_id"]),
    ):
        _side(run, ending, field, set(known), folder / f"{name}.{ending}")
    features = {"image": mixed(run, source, shown), "text": run.features("text")}
    features = {kind: found for kind, found in features.items() if len(found[0])}
    for kind, (tokens, rows) in features.items():
        _features(keys, kind, tokens, rows, folder / name)
    _yamls(keys, list(features), inter, folder, data_path, name)
    if images:
        _images(run, source, shown, folder)


def _interactions(run: RunContext, keys: dict[str, Any], path: Path) -> list[str]:
    """Write the likes, once as a whole and once by split, and return their columns.

    They stand in the run's order, oldest first within a user: a stable sort by time, such as RecBole's, leaves equal times as the
    run had them.
    """
    likes = run.interactions[run.interactions["split"].isin(SPLITS)]
    names = {
        "user_id": (keys.get("USER_ID_FIELD", "user_id"), "token"),
        "item_id": (keys.get("ITEM_ID_FIELD", "item_id"), "token"),
        "rating": (keys.get("RATING_FIELD", "rating"), "float"),
        "timestamp": (keys.get("TIME_FIELD", "timestamp"), "float"),
    }
    kept = [column for column in names if likes[column].notna().any()]
    headers = {column: ":".join(names[column]) for column in kept}
    for part in ("", *SPLITS):
        rows = likes if not part else likes[likes["split"] == part]
        file = f"{path}.{part}.inter" if part else f"{path}.inter"
        rows[kept].rename(columns=headers).to_csv(file, sep=run.separator, index=False)
    return [names[column][0] for column in kept]


def _side(run: RunContext, ending: str, field: str, tokens: set[str], path: Path) -> None:
    """Copy the rows of the data set's `.item` or `.user` that the run knows; without an `.item`, write the items' texts.

    A column of image paths is left out: they mean nothing in another folder.
    """
    original = run.source / f"{run.config.recbole['dataset']}.{ending}"
    if not original.is_file():
        if ending == "item":
            table = run.items.rename(columns={"item_id": f"{field}:token", "text": "text:token_seq"})
            table[[f"{field}:token", "text:token_seq"]].to_csv(path, sep=run.separator, index=False)
        return
    table = pd.read_csv(original, sep=run.separator, dtype=str, keep_default_na=False, encoding="utf-8")
    table.columns = pd.Index([column.removeprefix("\ufeff") for column in table.columns])
    table = table[[column for column in table.columns if column.split(":")[0] != IMAGE_FIELD]]
    table[table[f"{field}:token"].isin(tokens)].to_csv(path, sep=run.separator, index=False)


def _features(keys: dict[str, Any], kind: str, tokens: list[str], rows: np.ndarray, path: Path) -> None:
    """Write one modality as text for RecBole, ``NAME.imageemb``, and as an array with its ids, ``NAME.image.npy``.

    Numbers are written with as many digits as bring the same float32 back.
    """
    outer, inner = keys.get("field_separator", "\t"), keys.get("seq_separator", " ")
    with Path(f"{path}.{kind}emb").open("w", encoding="utf-8") as file:
        file.write(f"{kind}_id:token{outer}{kind}:float_seq\n")
        for token, row in zip(tokens, rows, strict=True):
            file.write(f"{token}{outer}{inner.join(row.astype(str))}\n")
    np.save(f"{path}.{kind}.npy", np.ascontiguousarray(rows, dtype=np.float32), allow_pickle=False)
    Path(f"{path}.{kind}.ids.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


def _yamls(
    keys: dict[str, Any], kinds: list[str], inter: list[str], folder: Path, data_path: Path, name: str
) -> None:
    """Write the two YAMLs: one for RecBole's own reading of the features, one for our models' reading of the arrays."""
    same = (
        "field_separator",
        "seq_separator",
        "USER_ID_FIELD",
        "ITEM_ID_FIELD",
        "RATING_FIELD",
        "TIME_FIELD",
    )
    shared = {
        "dataset": name,
        "data_path": str(data_path),
        **{key: keys[key] for key in (*same, "eval_args", "metrics", "topk", "valid_metric") if key in keys},
        "benchmark_filename": list(SPLITS),
    }
    columns: dict[str, list[str]] = {"inter": inter, "item": [keys.get("ITEM_ID_FIELD", "item_id")]}
    preloaded = {
        "load_col": columns | {f"{kind}emb": [f"{kind}_id", kind] for kind in kinds},
        "additional_feat_suffix": [f"{kind}emb" for kind in kinds],
        "alias_of_item_id": [f"{kind}_id" for kind in kinds],
        "preload_weight": {f"{kind}_id": kind for kind in kinds},
    }
    arrays = {kind: str(data_path / name / f"{name}.{kind}.npy") for kind in kinds}
    note = (
        "# benchmark_filename is the run's own split; without it RecBole splits NAME.inter itself, by eval_args.\n"
        "# Where the folder moves, its path has to be changed here too.\n"
    )
    for file, values in (
        (name, preloaded),
        (f"{name}-arrays", {"load_col": columns, "item_features": arrays}),
    ):
        text = yaml.safe_dump({**shared, **values}, sort_keys=False, allow_unicode=True)
        (folder / f"{file}.yaml").write_text(note.replace("NAME", name) + text, encoding="utf-8")


def _images(run: RunContext, source: str, shown: np.ndarray | None, folder: Path) -> None:
    """Copy the creatives with a manifest as `recgen evaluate --creatives` reads it; PNGs say inside where they are from."""
    rows = creatives(run, source)[0]
    rows = rows if shown is None else rows[shown]
    (folder / "creatives").mkdir()
    drawn = is_drawn(run, source)
    for done, (path, recipe) in enumerate(zip(rows["path"], rows["recipe"], strict=True), start=1):
        image = read_file(run.folder / path)
        (folder / "creatives" / Path(path).name).write_bytes(
            provenance.stamped(image, recipe) if drawn else image
        )
        show("export: images", done, len(rows))
    table = rows[["user_id", "item_id"]].assign(
        path=[Path(path).name for path in rows["path"]],
        recipe_sha256=[provenance.recipe_hash(recipe) for recipe in rows["recipe"]],
    )
    table.to_csv(folder / "creatives/manifest.csv", index=False)
