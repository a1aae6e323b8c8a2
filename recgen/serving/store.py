"""What the service knows, in one database: creatives, users and items, what is to be drawn, and what was shown and clicked.

A SQLite file in the run's folder or, for services and workers on several machines, a PostgreSQL database. Nothing is read into
memory, so that millions of creatives cost a page or two of the file a request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recgen.core.errors import UserError
from recgen.data.click_log import ORIGINAL
from recgen.serving.database import connect

PATH = "serving/store.sqlite"
"""Where a run's store is, below its folder."""
LEASE = 900.0
"""Seconds after which what a worker took is given to another one."""
TRIES = 3
"""How often something is drawn that has failed."""
_TABLES = """
create table if not exists facts (name text primary key, value text not null){end};
create table if not exists users (user_id text primary key, shown text not null){end};
create table if not exists items (item_id text primary key, path text){end};
create table if not exists creatives (
    user_id text, item_id text, path text not null, recipe text not null, later integer not null default 0,
    primary key (user_id, item_id)
){end};
create index if not exists images on creatives (recipe);
create table if not exists packed (path text primary key, shard text not null, start integer, length integer){end};
create table if not exists queue (
    user_id text, item_id text, asked double precision not null, state text not null, since double precision not null,
    tries integer not null,
    primary key (user_id, item_id)
){end};
create index if not exists waiting on queue (state, asked);
create table if not exists impressions (
    page_id text, position integer, impression text not null, user_id text not null, item_id text not null,
    arm text not null, picture text not null, propensity double precision not null, shown double precision not null,
    click integer not null default 0,
    primary key (page_id, position)
){end};
create index if not exists clicks on impressions (impression);
"""


_CREATIVE = """
insert into creatives values (?, ?, ?, ?, {later}) on conflict (user_id, item_id) do update set
    path = excluded.path, recipe = excluded.recipe, later = excluded.later
"""
_IMPRESSION = """
insert into impressions (impression, page_id, position, user_id, item_id, arm, picture, propensity, shown)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (page_id, position) do update set
    impression = excluded.impression, user_id = excluded.user_id, item_id = excluded.item_id, arm = excluded.arm,
    picture = excluded.picture, propensity = excluded.propensity, shown = excluded.shown, click = 0
"""


@dataclass(frozen=True)
class Shown:
    """A creative: its file below the run's folder, and the SHA-256 of its recipe."""

    path: str
    recipe: str


@dataclass(frozen=True)
class Impression:
    """What was shown, as the click log has it (`recgen.data.click_log`), under a name of its own."""

    impression: str
    page_id: str
    position: int
    user_id: str
    item_id: str
    arm: str
    picture: str
    propensity: float


class Store:
    """A connection to the store; each thread and process opens its own.

    Parameters
    ----------
    folder
        The run's folder.
    database
        The URL of a PostgreSQL database; None for a SQLite file in the folder.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.db = connect(folder / PATH, database)
        self.db.define(_TABLES)

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    # ---- what is asked for every request ----

    def creative(self, user: str, item: str) -> Shown | None:
        """Return the creative that was drawn of an item for a user; None where there is none."""
        row = self.db.execute(
            "select path, recipe from creatives where user_id = ? and item_id = ?", (user, item)
        ).fetchone()
        return None if row is None else Shown(*row)

    def shown_to(self, user: str) -> str | None:
        """Return whose creatives a user is shown beside the user's own, "" where nobody's; None for a user nobody knows."""
        row = self.db.execute("select shown from users where user_id = ?", (user,)).fetchone()
        return None if row is None else str(row[0])

    def refused(self, user: str, item: str) -> bool:
        """Return whether the gate refuses what was drawn of an item for a user."""
        found = self.db.execute(
            "select state from queue where user_id = ? and item_id = ?", (user, item)
        ).fetchone()
        return found is not None and found[0] == "refused"

    def item(self, item: str) -> tuple[bool, str | None]:
        """Return whether an item is known, and the file of its own image, if it has one; see `RunContext.image`."""
        row = self.db.execute("select path from items where item_id = ?", (item,)).fetchone()
        return row is not None, None if row is None else row[0]

    def image(self, recipe: str) -> str | None:
        """Return the file of a creative by its recipe's SHA-256."""
        row = self.db.execute("select path from creatives where recipe = ? limit 1", (recipe,)).fetchone()
        return None if row is None else str(row[0])

    def packed(self, path: str) -> tuple[str, int, int] | None:
        """Return the archive that an image is packed in, and offset and length in bytes; None for a file of its own."""
        row = self.db.execute("select shard, start, length from packed where path = ?", (path,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]), int(row[2]))

    def fact(self, name: str) -> str | None:
        """Return a fact about the store, such as whose creatives it has."""
        row = self.db.execute("select value from facts where name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    # ---- what is written ----

    def publish(
        self,
        facts: dict[str, str],
        users: Iterable[tuple[str, str]],
        items: Iterable[tuple[str, str | None]],
        creatives: Iterable[tuple[str, str, str, str]],
        refused: Iterable[tuple[str, str]] = (),
        packed: Iterable[tuple[str, str, int, int]] = (),
    ) -> None:
        """Put a run's users, items and creatives in the place of what was there, in one step; impressions stay.

        Of creatives whose images are packed, `packed` says where they lie: path, archive, offset and length.

        What was asked for in vain stays in the queue; what the gate has refused is not drawn again. What workers have drawn since
        stays too, unless the fact ``source`` says that they drew otherwise than the run does now: then what they refused, or
        failed at, is tried again too.
        """
        now = time.time()
        with self.db.step():
            same = facts.get("source") == self.fact("source")
            self.db.execute("delete from queue where state = 'refused'" + (" and tries = 0" if same else ""))
            if not same:
                self.db.execute("update queue set state = 'waiting', tries = 0 where state = 'taken'")
            self.db.executemany(
                "insert into queue values (?, ?, ?, 'refused', ?, 0) on conflict (user_id, item_id) do update set "
                "asked = excluded.asked, state = excluded.state, since = excluded.since, tries = excluded.tries",
                [(*pair, now, now) for pair in refused],
            )
            for table in ("facts", "users", "items", "packed"):
                self.db.execute(f"delete from {table}")
            self.db.execute("delete from creatives" + (" where later = 0" if same else ""))
            self.db.executemany("insert into facts values (?, ?)", list(facts.items()))
            self.db.executemany("insert into users values (?, ?)", users)
            self.db.executemany("insert into items values (?, ?)", items)
            self.db.executemany("insert into packed values (?, ?, ?, ?)", packed)
            self.db.executemany(_CREATIVE.format(later=0), creatives)
            self.db.execute(
                "delete from queue where state <> 'refused' and exists (select 1 from creatives where "
                "creatives.user_id = queue.user_id and creatives.item_id = queue.item_id)"
            )

    def log(self, impressions: Sequence[Impression], misses: Sequence[tuple[str, str]]) -> None:
        """Write what was shown, and queue what could not be; a place of a page that is shown again is what it was shown last."""
        now = time.time()
        with self.db.step():
            self.db.executemany(
                _IMPRESSION,
                [
                    (e.impression, e.page_id, e.position, e.user_id, e.item_id, e.arm, e.picture, e.propensity, now)
                    for e in impressions
                ],
            )  # fmt: skip
            self.db.executemany(
                "insert into queue values (?, ?, ?, 'waiting', ?, 0) on conflict do nothing",
                [(*miss, now, now) for miss in misses],
            )

    def click(self, impression: str) -> bool:
        """Note that an impression was clicked; return whether there is such an impression."""
        return (
            self.db.execute("update impressions set click = 1 where impression = ?", (impression,)).rowcount
            > 0
        )

    def take(self, count: int) -> list[tuple[str, str]]:
        """Take pairs of user and item that wait to be drawn, the oldest first.

        Those of a worker that died are given again, each alone: one that no worker survives does not take others with it.
        """
        now = time.time()
        with self.db.step():
            self.db.execute(
                "update queue set state = 'waiting' where state = 'taken' and since < ? and tries < ?", (now - LEASE, TRIES)
            )  # fmt: skip
            rows = self.db.execute(
                "select user_id, item_id, tries from queue where state = 'waiting' "
                "order by asked, user_id, item_id limit ?",
                (count,),
            ).fetchall()
            pairs = [row[:2] for row in rows if not row[2]] or [row[:2] for row in rows[:1]]
            self.db.executemany(
                "update queue set state = 'taken', since = ?, tries = tries + 1 where user_id = ? and item_id = ?",
                [(now, *pair) for pair in pairs],
            )
        return [(str(user), str(item)) for user, item in pairs]

    def give_back(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let pairs that were taken wait again, as if they had never been taken."""
        self.db.executemany(
            "update queue set state = 'waiting', tries = tries - 1 where user_id = ? and item_id = ? and state = 'taken'",
            list(pairs),
        )

    def drawn(
        self, made: Iterable[tuple[str, str, str, str]], refused: Iterable[tuple[str, str]], source: str
    ) -> bool:
        """Put accepted creatives (user, item, path, recipe) up, and note which pairs the gate refuses, for ever.

        Return False, and do neither, where something else has been published since than what was drawn by, the fact `source`.
        """
        rows = list(made)
        with self.db.step():
            if self.fact("source") != source:
                return False
            self.db.executemany(_CREATIVE.format(later=1), rows)
            self.db.executemany(
                "delete from queue where user_id = ? and item_id = ?",
                [(user, item) for user, item, _, _ in rows],
            )
            self.db.executemany(
                "update queue set state = 'refused' where user_id = ? and item_id = ?", list(refused)
            )
        return True

    def waiting(self) -> dict[str, int]:
        """Return how many pairs are in each state of the queue: waiting, taken, refused."""
        return dict(self.db.execute("select state, count(*) from queue group by state").fetchall())

    def log_table(self) -> pd.DataFrame:
        """Return all impressions as a click log (`recgen.data.click_log`), in the order in which they were shown."""
        found = self.db.execute(
            "select user_id, item_id, page_id, 0 as round, position, arm, picture, propensity, click, shown as shown_at "
            "from impressions order by shown, page_id, position"
        )
        names = [column[0] for column in found.description]
        return pd.DataFrame(found.fetchall(), columns=names).astype(
            {"round": "int64", "position": "int64", "click": bool}
        )


def served(folder: Path, database: str | None) -> Store:
    """Return the store of a run that has been served.

    Raises
    ------
    UserError
        For a run that has not been.
    """
    where = f"no {PATH}" if database is None else "nothing published in the database"
    store = Store(folder, database) if database is not None or (folder / PATH).is_file() else None
    if store is None or store.fact("generator") is None:
        raise UserError(
            f"--run {folder}", found=where, expected="a run that has been served", todo="Serve it first: recgen serve."
        )  # fmt: skip
    return store


def arm(generator: str, whose: str) -> str:
    """Return the name that an arm has in the log: the generator's for a user's own creative, ``group.<generator>``, ``original``.

    >>> arm("taste", "own"), arm("taste", "group"), arm("taste", "original")
    ('taste', 'group.taste', 'original')
    """
    return {"own": generator, "group": f"group.{generator}", "original": ORIGINAL}[whose]
