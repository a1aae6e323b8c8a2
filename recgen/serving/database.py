"""The two databases that a store may lie in, behind the few calls that it makes: SQLite, and PostgreSQL where asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from recgen.core.errors import UserError, without_credentials

_WRITER = (
    7_245_301  # the name of the lock that PostgreSQL's writers take in turn, as SQLite's do of themselves
)


class Database(Protocol):
    """A connection. Statements are in the SQL that both databases read, with ``?`` for a value."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement, and return its cursor."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of values."""

    def define(self, tables: str) -> None:
        """Make the tables that are not there yet; ``{end}`` ends the definition of one that is read by its key alone."""

    def step(self) -> AbstractContextManager[None]:
        """Return a transaction of the only writer, which is rolled back by an exception."""

    def close(self) -> None:
        """Close the connection."""


def connect(path: Path, url: str | None) -> Database:
    """Return a connection to the SQLite file at `path` or, with a URL, to a PostgreSQL database.

    Raises
    ------
    UserError
        For a URL of another kind, a database that does not answer, or without the package for it.
    """
    return SQLite(path) if url is None else PostgreSQL(url)


class SQLite:
    """A file, which any number of processes read while one writes; what was committed is there after a kill."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute(
            "pragma synchronous = normal"
        )  # a commit outlives the process, if not a power failure

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """See `Database`."""
        return self._db.execute(statement, values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """See `Database`."""
        self._db.executemany(statement, rows)

    def define(self, tables: str) -> None:
        """See `Database`."""
        self._db.executescript(tables.format(end=" without rowid"))

    def step(self) -> AbstractContextManager[None]:
        """See `Database`."""
        # begun as a writer's, so that it never finds another's write in its way half done
        return _Step(self, "begin immediate")

    def close(self) -> None:
        """See `Database`."""
        self._db.close()


class PostgreSQL:
    """A server's database, for services and workers on several machines; one for each run."""

    def __init__(self, url: str) -> None:
        shown = f"--database {without_credentials(url)}"
        expected = "a database that answers, as in postgresql://user:password@host/name"
        if not url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise UserError(shown, found="another kind of address", expected=expected)
        try:
            import psycopg
        except ImportError as error:
            raise UserError(
                shown,
                found="no psycopg",
                expected="it installed",
                todo="pip install 'recgen[postgres]'",
            ) from error
        try:
            self._db = psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)
        except psycopg.Error as error:
            found = without_credentials(str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(shown, found=found, expected=expected) from error

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """See `Database`."""
        return self._db.execute(_own(statement), values)

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """See `Database`."""
        with self._db.cursor() as cursor:
            cursor.executemany(_own(statement), rows)

    def define(self, tables: str) -> None:
        """See `Database`."""
        with self.step():  # two that make the same table at once end in an error
            self._db.execute(tables.format(end="").encode())

    def step(self) -> AbstractContextManager[None]:
        """See `Database`."""
        return _Step(self, "begin", f"select pg_advisory_xact_lock({_WRITER})")

    def close(self) -> None:
        """See `Database`."""
        self._db.close()


def _own(statement: str) -> bytes:
    """Return a statement as psycopg reads it."""
    return statement.replace("?", "%s").encode()


class _Step:
    """A transaction."""

    def __init__(self, db: Database, *begin: str) -> None:
        self._db, self._begin = db, begin

    def __enter__(self) -> None:
        for statement in self._begin:
            self._db.execute(statement)

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._db.execute("commit" if kind is None else "rollback")
