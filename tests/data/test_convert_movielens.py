"""MovieLens in its three published layouts, as few rows."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
from converted import dropped, histories, images, kept, table
from PIL import Image

from recgen.core.errors import UserError
from recgen.data.convert import movielens

MOVIES = [
    ("1", "Toy Story (1995)", "Adventure|Animation|Children"),
    ("2", '"Great" Performances, The (1997)', "(no genres listed)"),
    ("3", "Amélie (Fabuleux destin d'Amélie Poulain, Le) (2001)", "Comedy|Romance"),
    ("4", "Babylon 5", "Sci-Fi"),
    ("5", "Heat (1995)", "Film-Noir"),
]


def ratings(users: int = 3) -> list[tuple[str, str, str, str]]:
    """Every user rates all films, newest first; user 9 likes two only."""
    rows = [
        (str(u), str(item), "4.5", str(1000 + 10 * u - item))
        for u in range(1, users + 1)
        for item in range(1, 6)
    ]
    return rows + [("9", "1", "5.0", "3"), ("9", "2", "4.0", "4"), ("9", "3", "3.5", "5")]


def write_csv(path: Path, header: str, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([header.split(","), *rows])


@pytest.fixture
def latest(tmp_path) -> Path:
    raw = tmp_path / "ml-latest-small"
    raw.mkdir()
    wrong = [("1", "77", "5.0", "1"), ("1", "1", "good", "1")]
    write_csv(raw / "ratings.csv", "userId,movieId,rating,timestamp", [*ratings(), *wrong])
    write_csv(raw / "movies.csv", "movieId,title,genres", [*MOVIES, MOVIES[0]])
    links = [(f"{n}", f"011470{n}", "" if n == 4 else f"86{n}") for n in range(1, 6)]
    write_csv(raw / "links.csv", "movieId,imdbId,tmdbId", links)
    return raw


def test_latest_small(latest, tmp_path):
    movielens.prepare(latest, tmp_path / "ml")
    items = table(tmp_path / "ml", "item").set_index("item_id")
    assert items.loc["1"].tolist() == ["Toy Story", "1995", "Adventure Animation Children"]
    assert items.loc["2"].tolist() == ['"Great" Performances, The', "1997", ""]
    assert items.loc["3", "movie_title"] == "Amélie (Fabuleux destin d'Amélie Poulain, Le)"
    assert items.loc["4"].tolist() == ["Babylon 5", "", "Sci-Fi"]
    assert histories(tmp_path / "ml") == {str(user): ["5", "4", "3", "2", "1"] for user in (1, 2, 3)}
    assert dropped(tmp_path / "ml") == {
        "interactions: of users with fewer than 3 likes": 3,
        "users: fewer than 3 likes": 1,
        "items: an item that was there before": 1,
        "interactions: a movie that was not kept": 1,
        "interactions: a rating or a time that is no number": 1,
    }
    assert not (tmp_path / "ml/image_urls.csv").exists()


def test_the_three_layouts_give_the_same_data(latest, tmp_path):
    old, one = tmp_path / "ml-100k", tmp_path / "ml-1m"
    old.mkdir()
    one.mkdir()
    whole = [(user, item, str(int(float(rating))), time) for user, item, rating, time in ratings()]
    (old / "u.data").write_text("".join("\t".join(row) + "\n" for row in whole))
    flags = [
        ["1" if name in genres.split("|") else "0" for name in movielens._GENRES] for _, _, genres in MOVIES
    ]
    named = [(item, title, "01-Jan-1995", "", f"http://host.invalid/{item}") for item, title, _ in MOVIES]
    lines = ["|".join((*names, *flag)) for names, flag in zip(named, flags, strict=True)]
    (old / "u.item").write_bytes("\n".join(lines).encode("latin-1"))
    (one / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in whole))
    (one / "movies.dat").write_bytes("\n".join("::".join(movie) for movie in MOVIES).encode("latin-1"))
    for raw in (latest, old, one):
        movielens.prepare(raw, tmp_path / f"out-{raw.name}")
    first, *others = (tmp_path / f"out-{raw.name}" for raw in (latest, old, one))
    for other in others:
        assert histories(other) == histories(first)
        same = table(other, "item").set_index("item_id")[["movie_title", "release_year"]]
        assert same.equals(table(first, "item").set_index("item_id")[["movie_title", "release_year"]])
    assert table(others[1], "item").equals(table(first, "item"))
    assert table(others[0], "item")["class"].tolist() == [
        "Adventure Animation",
        "",
        "Comedy Romance",
        "Sci-Fi",
        "Film-Noir",
    ]


def test_histories_are_cut_oldest_first(latest, tmp_path):
    movielens.prepare(latest, tmp_path / "ml", histories=2, min_likes=2)
    cut = {f"{user}_{n}": items for user in (1, 2, 3) for n, items in ((1, ["5", "4"]), (2, ["3", "2"]))}
    assert histories(tmp_path / "ml") == cut | {"9_1": ["1", "2"]}
    assert dropped(tmp_path / "ml")["interactions: left over when histories were cut into 2"] == 4


def test_posters_by_template(latest, tmp_path):
    movielens.prepare(latest, tmp_path / "ml", poster_url="https://host.invalid/{tmdb_id}/{movie_id}.jpg")
    with (tmp_path / "ml/image_urls.csv").open(newline="") as file:
        urls = {row["item_id"]: row["url"] for row in csv.DictReader(file)}
    assert urls["1"] == "https://host.invalid/861/1.jpg" and set(urls) == {"1", "2", "3", "5"}
    assert dropped(tmp_path / "ml")["image URLs: no tmdb_id in links.csv"] == 1
    for wrong in ("file:///posters/{movie_id}", "https://host.invalid/poster.jpg"):
        with pytest.raises(UserError, match="--poster-url"):
            movielens.prepare(latest, tmp_path / "ml", poster_url=wrong)


@pytest.mark.parametrize("packed", [False, True])
def test_posters_from_a_folder_or_a_zip(latest, tmp_path, packed):
    given = tmp_path / "posters"
    given.mkdir()
    for item in ("1", "2", "3"):
        Image.new("RGB", (4, 4), (int(item), 0, 0)).save(given / f"{item}.png")
    if packed:
        with zipfile.ZipFile(tmp_path / "posters.zip", "w") as archive:
            for item in ("1", "2", "3"):
                archive.write(given / f"{item}.png", f"../../deep/{item}.PNG")
            archive.write(given / "3.png", "again/1.png")
            archive.writestr("readme.txt", "no image")
        given = tmp_path / "posters.zip"
    movielens.prepare(latest, tmp_path / "out/ml", images=given, with_images_only=True)
    assert kept(tmp_path / "out/ml") == {"items": 3, "images": 3, "users": 3, "interactions": 9}
    assert dropped(tmp_path / "out/ml")["items: no poster"] == 2
    assert (
        dropped(tmp_path / "out/ml").get("images: another image of that name was there before", 0) == packed
    )
    assert images(tmp_path / "out/ml") == {"1": "1", "2": "2", "3": "3"}
    for item in ("1", "2", "3"):
        assert Image.open(tmp_path / f"out/ml/images/{item}.png").getpixel((0, 0)) == (int(item), 0, 0)
    assert {path.name for path in tmp_path.iterdir()} <= {"ml-latest-small", "posters", "posters.zip", "out"}


def test_another_folder_says_what_is_there(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/README.txt").touch()
    with pytest.raises(UserError, match=r"found README.txt; expected u.data and u.item"):
        movielens.prepare(tmp_path / "raw", tmp_path / "out")


def test_a_missing_column_is_named(latest, tmp_path):
    write_csv(latest / "ratings.csv", "userId,movie,rating,timestamp", ratings())
    with pytest.raises(
        UserError, match=r"ratings.csv, row 1: .*expected one column 'movieId'. Did you mean 'movie'"
    ):
        movielens.prepare(latest, tmp_path / "out")
