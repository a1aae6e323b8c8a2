"""How large the data of a run are: counted in its tables where they are made, else estimated from what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgen.config.schema import Requests, Settings
from recgen.config.simulator import Simulator

if TYPE_CHECKING:
    import pandas as pd

_READ = 64 * 2**20  # bytes of a log that are counted; a longer one is scaled up


@dataclass(frozen=True)
class Sizes:
    """Numbers of users, items, interactions and likes, and of images asked for a generator."""

    users: int
    items: int
    interactions: int
    likes: int
    requests: int


def of_tables(folder: Path) -> Sizes | None:
    """Return the sizes of a run whose dataset stage is done, from its folder; None where it is not, or a table is damaged."""
    import pandas as pd

    files = [folder / "dataset" / f"{name}.parquet" for name in ("interactions", "items", "requests")]
    if not all(file.is_file() for file in files):
        return None
    try:
        log = pd.read_parquet(files[0], columns=["user_id", "like"])
        items, asked = (pd.read_parquet(file, columns=["item_id"]) for file in files[1:])
    except Exception:  # of the many kinds that pyarrow raises; the run makes the table again
        return None
    return Sizes(log["user_id"].nunique(), len(items), len(log), int(log["like"].sum()), len(asked))


def of_simulator(simulator: Simulator, settings: Settings) -> Sizes:
    """Return the sizes of a data set that a run makes up: about half of what its users meet is liked."""
    met = simulator.users * simulator.interactions_per_user
    return with_requests(simulator.users, simulator.items, met, met // 2, settings)


def of_files(log: Path, items: Path, recbole: Mapping[str, Any], settings: Settings) -> Sizes | None:
    """Return the sizes of a RecBole data set by its atomic files; None where they cannot be read.

    Parameters
    ----------
    log, items
        The `.inter` and the `.item` file; there may be none of the second.
    recbole
        RecBole's keys, which name columns and separator.
    settings
        The `recgen:` block.
    """
    import pandas as pd

    user, item = recbole.get("USER_ID_FIELD", "user_id"), recbole.get("ITEM_ID_FIELD", "item_id")
    rating = recbole.get("RATING_FIELD", "rating")
    separator = recbole.get("field_separator", "\t")
    try:
        share = min(1.0, _READ / max(log.stat().st_size, 1))
        rows = None if share == 1 else int(_READ / _row_bytes(log))
        table = pd.read_csv(log, sep=separator, dtype=str, keep_default_na=False, nrows=rows)
        table.columns = pd.Index([column.partition(":")[0] for column in table.columns])
        catalogue = _lines(items) - 1 if items.is_file() else table[item].nunique()
        likes = _liked(table, rating, settings.like_threshold)
        users = table.loc[likes, user].nunique()
    except (OSError, ValueError, KeyError):
        return None  # what is wrong with the file, the dataset stage says
    return with_requests(
        int(users / share), catalogue, int(len(table) / share), int(likes.sum() / share), settings
    )


def _liked(table: pd.DataFrame, rating: str, threshold: float | None) -> pd.Series:
    import pandas as pd

    if threshold is None or rating not in table:
        return pd.Series(True, index=table.index)
    return pd.to_numeric(table[rating], errors="coerce") >= threshold


def _row_bytes(path: Path) -> float:
    with path.open("rb") as file:
        head = file.read(2**16)
    return len(head) / max(head.count(b"\n"), 1)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def with_requests(users: int, items: int, interactions: int, likes: int, settings: Settings) -> Sizes:
    """Return sizes with the number of requests that the configuration asks for."""
    asked = settings.requests
    if isinstance(asked, Requests) and asked.protocol == "blind":
        wanted = min(asked.items, items) * asked.per_item
    else:
        most = asked.users if isinstance(asked, Requests) else asked
        wanted = users if most is None else min(most, users)
    return Sizes(users, items, interactions, likes, wanted)
