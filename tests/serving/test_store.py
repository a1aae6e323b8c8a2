"""The store of the service: its queue, and what publishing again does to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recgen.serving import store as module
from recgen.serving.store import Impression, Store

USERS, ITEMS = [("u", ""), ("v", "")], [("i", None), ("j", None), ("k", None)]


def published(store: Store, source: str = "one", creatives=(), refused=()) -> None:
    store.publish({"generator": "toy", "source": source}, USERS, ITEMS, creatives, refused)


def missed(store: Store, *pairs: tuple[str, str]) -> None:
    shown = [Impression("".join(pair), "".join(pair), 1, *pair, "original", "", 1.0) for pair in pairs]
    store.log(shown, list(pairs))


@pytest.fixture(params=["sqlite", "postgres"])
def database(request) -> str | None:
    """The URL of a PostgreSQL database without a table, or None for SQLite."""
    if request.param == "sqlite":
        return None
    psycopg = pytest.importorskip("psycopg")
    url = request.getfixturevalue("postgres")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as server:
        server.execute("drop schema public cascade")
        server.execute("create schema public")
    return url


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    store = Store(tmp_path, database)
    published(store)
    missed(store, ("u", "i"), ("u", "j"), ("v", "i"))
    yield store
    store.close()


@pytest.fixture
def no_lease(monkeypatch) -> None:
    monkeypatch.setattr(module, "LEASE", -1.0)


def test_what_a_dead_worker_had_taken_is_given_again_alone_and_not_for_ever(store, no_lease):
    assert store.take(9) == [("u", "i"), ("u", "j"), ("v", "i")]
    missed(store, ("v", "j"))
    assert store.take(9) == [("v", "j")], "what nobody has failed at comes first"
    again = [store.take(9) for _ in range(9)]
    assert [pairs for pairs in again if pairs] == [[pair] for pair in (
        ("u", "i"), ("u", "i"), ("u", "j"), ("u", "j"), ("v", "i"), ("v", "i"), ("v", "j"), ("v", "j")
    )]  # fmt: skip
    assert store.waiting() == {"taken": 4}


def test_no_two_workers_take_the_same(store, database, tmp_path):
    pairs = {("u", f"item {number}") for number in range(120)}
    missed(store, *pairs)
    taken: list[tuple[str, str]] = []

    def work() -> None:
        own = Store(tmp_path, database)
        while found := own.take(2):
            taken.extend(found)
        own.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(pairs | {("u", "i"), ("u", "j"), ("v", "i")})


def test_what_is_given_back_waits_as_before(store):
    pairs = store.take(2)
    store.give_back(pairs)
    assert store.take(9) == [("u", "i"), ("u", "j"), ("v", "i")]


def test_published_again_what_is_there_now_waits_no_more(store):
    published(store, creatives=[("u", "i", "a.png", "r")])
    assert store.take(9) == [("u", "j"), ("v", "i")]


def test_otherwise_drawn_what_was_failed_at_or_refused_is_tried_again(store, no_lease):
    (first, *_) = store.take(3)
    store.drawn([], [first], "one")
    while store.take(3):
        pass
    assert store.waiting() == {"refused": 1, "taken": 2}
    published(store)
    assert store.take(3) == [] and store.refused(*first)
    published(store, source="two")
    assert not store.refused(*first) and len(store.take(3)) == 2


def test_what_was_drawn_before_something_else_was_published_is_not_put_up(store):
    (first, *_) = store.take(1)
    published(store, source="two")
    assert not store.drawn([(*first, "a.png", "r")], [], "one")
    assert store.creative(*first) is None and store.take(1) == [first]
    assert store.drawn([(*first, "b.png", "r")], [], "two") and store.creative(*first).path == "b.png"


def test_published_again_what_a_worker_drew_stays_while_it_draws_as_the_run_does(store):
    store.take(3)
    store.drawn([("u", "i", "later.png", "r")], [("u", "j")], "one")
    published(store, creatives=[("v", "i", "run.png", "s")])
    assert store.creative("u", "i").path == "later.png" and store.creative("v", "i").path == "run.png"
    assert store.refused("u", "j")
    published(store, source="two")
    assert store.creative("u", "i") is None and store.creative("v", "i") is None
