"""Puts a run's accepted creatives where the service finds them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from recgen.core.errors import UserError, nearest
from recgen.core.io import digest, read_json
from recgen.core.provenance import recipe_hash
from recgen.pipeline.context import RunContext
from recgen.runs import open_run
from recgen.serving.store import Store
from recgen.stages.chunks import INDEX


def publish(
    folder: Path, generator: str | None, everything: bool = False, database: str | None = None
) -> str:
    """Publish a run's creatives and return a line that says how many.

    Parameters
    ----------
    folder
        The run's folder, finished up to gate.
    generator
        Whose creatives; None is the run's only generator.
    everything
        Whether to take creatives that the gate refused as well.
    database
        Where to, see `recgen.serving.store.Store`.

    Raises
    ------
    UserError
        If there is no such run or generator, or the run has not come to the gate.
    """
    run = open_run(str(folder))
    name = _generator(run.settings.generators, generator)
    for needed in ("creatives/manifest.parquet", *([] if everything else [f"gate/{name}.parquet"])):
        if not (folder / needed).is_file():
            raise UserError(
                f"--run {folder}", found=f"no {needed}", expected="a run that is finished up to gate",
                todo="Run it first: recgen run --config ... --until gate.",
            )  # fmt: skip
    made = pd.read_parquet(folder / "creatives/manifest.parquet")
    made = made[made["generator"] == name]
    refused: list[tuple[str, str]] = []
    if not everything:
        shown = pd.read_parquet(folder / f"gate/{name}.parquet")
        pairs = pd.MultiIndex.from_frame(shown.loc[shown["accepted"], ["user_id", "item_id"]])
        refused = list(
            shown.loc[~shown["accepted"], ["user_id", "item_id"]].itertuples(index=False, name=None)
        )
        made = made[pd.MultiIndex.from_frame(made[["user_id", "item_id"]]).isin(pairs)]
    store = Store(folder, database)
    users = _users(folder, run.interactions["user_id"])
    items = zip(run.items["item_id"], run.items["image"], strict=True)
    recipes = [recipe_hash(recipe) for recipe in made["recipe"]]
    rows = list(zip(_drawn_for(made, users), made["item_id"], made["path"], recipes, strict=True))
    facts, packed = {"generator": name, "source": source(run, name)}, _packed(folder, made["path"])
    store.publish(facts, users.items(), items, dict.fromkeys(rows), refused, packed)
    store.close()
    return f"{folder}: {len(set(rows)):,} creatives of {name} for {len(users):,} users and {len(run.items):,} items"


def source(run: RunContext, name: str) -> str:
    """Return what identifies how a generator draws: what it was fitted on, its settings for drawing, and the gate."""
    fit = read_json(run.workspace.record(f"generator.fit/{name}")) or {}
    gate = run.settings.gate
    told = [fit.get("fingerprint"), run.config.generators[name].draw_settings, gate and gate.model_dump()]
    return digest([name, *told])


def _users(folder: Path, tokens: pd.Series) -> dict[str, str]:
    """Return for each user whose creatives the user is shown beside the user's own; "" where nobody shares."""
    path = folder / "creatives/groups.parquet"
    users = dict.fromkeys(map(str, tokens.unique()), "")
    if path.is_file():
        table = pd.read_parquet(path)
        users |= dict(zip(table["user_id"], table["representative"], strict=True))
    return users


def _packed(folder: Path, paths: pd.Series) -> list[tuple[str, str, int, int]]:
    """Return where the images of these paths lie that are packed: path, archive, offset and length."""
    if not (folder / INDEX).is_file():
        return []
    index = pd.read_parquet(folder / INDEX)
    return list(index[index["path"].isin(paths)].itertuples(index=False, name=None))


def _drawn_for(made: pd.DataFrame, users: dict[str, str]) -> list[str]:
    """Return for whom creatives were drawn: of shared ones the representative."""
    return [users.get(user) or user for user in made["user_id"]]


def _generator(known: list[str], name: str | None) -> str:
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        raise UserError(
            "--generator", found=repr(name) if name else "none named", expected=f"one of {', '.join(known)}",
            todo=nearest(name or "", known),
        )  # fmt: skip
    return name
