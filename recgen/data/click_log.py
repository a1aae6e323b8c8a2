"""The log of what was shown and clicked, with known propensities: one row per image shown.

A simulated market writes it, a service that serves creatives writes it, and `recgen.metrics.off_policy` reads it. It is a Parquet
file with these columns, and any others:

=============  ========  =========================================================================================
column         type      meaning
=============  ========  =========================================================================================
user_id        string    who saw the page
item_id        string    the item in this place
page_id        string    the page view; the same for all its places, and no other page's
round          int32     how often the recommender had been retrained when it ranked the page
position       int16     the place on the page, 1 at the top
arm            string    whose image was shown: ``original`` for the item's own, else a generator's name
picture        string    which picture: its file below the log's folder, or empty for the item's own
propensity     float64   the probability with which this arm was chosen here, given all that was known before
click          bool      whether it was clicked
=============  ========  =========================================================================================

A propensity is in (0, 1]. Where a page is given to one arm as a whole it is that of the page, in every place of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.io import write_parquet

ORIGINAL = "original"
"""The arm that shows the item's own image."""
TYPES = {
    "user_id": "str",
    "item_id": "str",
    "page_id": "str",
    "round": "int32",
    "position": "int16",
    "arm": "str",
    "picture": "str",
    "propensity": "float64",
    "click": "bool",
}


def write_log(path: Path, log: pd.DataFrame) -> None:
    """Write a log with the columns' own types, the columns of the format first.

    Raises
    ------
    UserError
        For a log that is none; see `check`.
    """
    check(log, str(path))
    others = [column for column in log if column not in TYPES]
    write_parquet(path, log[[*TYPES, *others]].astype(TYPES))


def read_log(path: Path) -> pd.DataFrame:
    """Return a log that `write_log` or another program wrote.

    Raises
    ------
    UserError
        Where there is no such file, or it is no log; see `check`.
    """
    if not path.is_file():
        raise UserError(str(path), found="no such file", expected="a click log (Parquet)")
    try:
        log = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(str(path), found=f"no Parquet ({error})", expected="a click log (Parquet)") from error
    check(log, str(path))
    return log.astype(TYPES)


def check(log: pd.DataFrame, where: str) -> None:
    """Raise `UserError` for an absent column or value, a propensity outside (0, 1], a position below 1 or a place shown twice."""
    absent = [column for column in TYPES if column not in log]
    if absent:
        raise UserError(where, found=f"no column {absent[0]!r}", expected=f"columns {', '.join(TYPES)}")
    for column in TYPES:
        if log[column].isna().any():
            raise _wrong(where, log[column].isna(), column, "nothing", "a value in every row")
    propensity = log["propensity"].to_numpy(dtype=np.float64)
    bad = pd.Series(~((propensity > 0) & (propensity <= 1)))
    if bad.any():
        raise _wrong(
            where, bad, "propensity", str(propensity[bad.argmax()]), "a probability above 0, at most 1"
        )
    low = (log["position"] < 1).reset_index(drop=True)
    if low.any():
        raise _wrong(where, low, "position", str(log["position"].iloc[low.argmax()]), "1 at the top, then 2")
    twice = log.duplicated(["page_id", "position"]).reset_index(drop=True)
    if twice.any():
        place = log.iloc[int(twice.argmax())]
        found = f"position {place['position']} of page {place['page_id']!r} a second time"
        raise _wrong(where, twice, "page_id", found, "one row per place of a page")


def _wrong(where: str, rows: pd.Series, column: str, found: str, expected: str) -> UserError:
    row = int(rows.to_numpy().argmax())
    return UserError(f"{where}, row {row}, {column}", found=found, expected=expected)
