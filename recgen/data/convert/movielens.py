"""MovieLens (Harper & Konstan 2015): 100K, 1M, and the CSV layout of latest-small, 20M, 25M and later, told by their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recgen.core.errors import UserError
from recgen.data.convert.images import find_images
from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import is_number, need, split, table, unusable
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import Target, writing

LIKE = 4.0
_LAYOUT = "u.data and u.item (100K), ratings.dat and movies.dat (1M), or ratings.csv and movies.csv (latest-small, 25M)"
_GENRES = (  # the 19 flags of u.item in their order, as in the published u.genre
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_PLACES = ("{movie_id}", "{imdb_id}", "{tmdb_id}")


class Rating(NamedTuple):
    """A row of the ratings file."""

    number: int
    user: str
    item: str
    rating: str
    time: str


class Movie(NamedTuple):
    """A row of the movies file; genres separated by ``|``."""

    number: int
    item: str
    title: str
    genres: str


@dataclass(frozen=True)
class Variant:
    """How one published layout is read."""

    name: str
    ratings_file: str
    movies_file: str
    ratings: Callable[[Path, Tally], Iterator[Rating]]
    movies: Callable[[Path, Tally], Iterator[Movie]]


def _ratings_of(separator: str) -> Callable[[Path, Tally], Iterator[Rating]]:
    def read(path: Path, tally: Tally) -> Iterator[Rating]:
        return (
            Rating(number, *fields)
            for number, fields in split(path, tally, separator, (4,), "interactions", "latin-1")
        )

    return read


def _ratings_csv(path: Path, tally: Tally) -> Iterator[Rating]:
    needed = ["userId", "movieId", "rating", "timestamp"]
    for number, row in table(path, tally, needed, "interactions"):
        yield Rating(number, *(row[name] for name in needed))


def _movies_100k(path: Path, tally: Tally) -> Iterator[Movie]:
    """id | title | release date | video date | URL | 19 flags."""
    for number, fields in split(path, tally, "|", (24,), "items", "latin-1"):
        genres = [name for name, flag in zip(_GENRES, fields[5:], strict=True) if flag.strip() == "1"]
        yield Movie(number, fields[0], fields[1], "|".join(genres))


def _movies_1m(path: Path, tally: Tally) -> Iterator[Movie]:
    return (Movie(number, *fields) for number, fields in split(path, tally, "::", (3,), "items", "latin-1"))


def _movies_csv(path: Path, tally: Tally) -> Iterator[Movie]:
    needed = ["movieId", "title", "genres"]
    return (
        Movie(number, *(row[name] for name in needed)) for number, row in table(path, tally, needed, "items")
    )


VARIANTS = (
    Variant("100K", "u.data", "u.item", _ratings_of("\t"), _movies_100k),
    Variant("1M", "ratings.dat", "movies.dat", _ratings_of("::"), _movies_1m),
    Variant("CSV", "ratings.csv", "movies.csv", _ratings_csv, _movies_csv),
)


def prepare(
    raw: Path, out: Path, images: Path | None = None, with_images_only: bool = False, poster_url: str | None = None,
    histories: int | None = None, users: int | None = None, seed: int = 0, min_likes: int = 3,
) -> Target:  # fmt: skip
    """Convert a MovieLens data set; columns are named as in RecBole's own ml-100k.

    Parameters
    ----------
    raw, out
        The folder of the published files, and the data set's.
    images
        Posters by movieId: a folder or a zip.
    with_images_only
        Leave out movies without a poster in `images`, and their ratings.
    poster_url
        Where posters are, with ``{movie_id}``, ``{imdb_id}`` or ``{tmdb_id}`` in it; the latter two come from links.csv.
    histories
        Cut each user's ratings, oldest first, into users with this many each; RAGAR has 20.
    users, seed
        How many users to draw, and the seed of the draw; None keeps all.
    min_likes
        Likes (ratings from 4 up) that a user needs.
    """
    _check_template(poster_url)
    if with_images_only and images is None:
        raise UserError(
            "--with-images-only", found="no --images", expected="the posters that decide which movies stay"
        )
    options = {
        "with_images_only": with_images_only,
        "poster_url": poster_url,
        "histories": histories,
        "users": users,
        "seed": seed,
    }
    with writing(out, raw, "MovieLens", **options, min_likes=min_likes) as target:
        variant = _variant(raw)
        target.note(variant=variant.name)
        ratings_file, movies_file = need(raw, [variant.ratings_file, variant.movies_file], _LAYOUT)
        posters = {} if images is None else find_images(images, target.scratch, target.tally)
        url = _poster_urls(raw, poster_url, target.tally)
        for movie in variant.movies(movies_file, target.tally):
            where = f"row {movie.number} of {movies_file.name}"
            item, poster = movie.item.strip(), posters.get(movie.item.strip())
            if with_images_only and poster is None:
                target.tally.drop("items", "no poster", where)
                continue
            target.add_item(item, _texts(movie), image=poster, url=None if poster else url(item), where=where)
        log = target.log(ratings_file)
        _read_ratings(variant.ratings(ratings_file, target.tally), log, target)
        target.add_interactions(log, Selection(min_likes, LIKE, users, seed, histories))
    return target


def _variant(raw: Path) -> Variant:
    for variant in VARIANTS:
        if (raw / variant.ratings_file).is_file():
            return variant
    here = ", ".join(sorted(path.name for path in raw.iterdir())[:8])
    raise UserError(f"--raw {raw}", found=here or "an empty folder", expected=_LAYOUT)


def _texts(movie: Movie) -> dict[str, str]:
    year = _YEAR.search(movie.title)
    genres = " ".join(
        name.replace(" ", "-") for name in movie.genres.split("|") if name != "(no genres listed)"
    )
    return {
        "movie_title:token_seq": _YEAR.sub("", movie.title),
        "release_year:token": year.group(1) if year else "",
        "class:token_seq": genres,
    }


def _read_ratings(ratings: Iterator[Rating], log: Log, target: Target) -> None:
    for number, user, item, rating, time in ratings:
        user, item, rating, time = user.strip(), item.strip(), rating.strip(), time.strip()
        why = unusable(user)
        if not why and not (is_number(rating) and is_number(time)):
            why = "a rating or a time that is no number"
        if not why and item not in target.items:
            why = "a movie that was not kept"
        if why:
            target.tally.drop("interactions", why, f"row {number}")
        else:
            log.add(user, item, rating, time)


def _check_template(poster_url: str | None) -> None:
    if poster_url is None:
        return
    if not poster_url.startswith(("http://", "https://")) or not any(
        place in poster_url for place in _PLACES
    ):
        raise UserError(
            "--poster-url", found=repr(poster_url), expected=f"a URL with {' or '.join(_PLACES)} in it"
        )


def _poster_urls(raw: Path, template: str | None, tally: Tally) -> Callable[[str], str | None]:
    """Return the function from a movieId to its poster's URL, None where links.csv lacks the id that the template takes."""
    if template is None:
        return lambda item: None
    links: dict[str, tuple[str, str]] = {}
    if any(place in template for place in _PLACES[1:]):
        (path,) = need(raw, ["links.csv"], f"links.csv, because --poster-url has {' or '.join(_PLACES[1:])}")
        rows = table(path, tally, ["movieId", "imdbId", "tmdbId"], "links")
        links = {row["movieId"].strip(): (row["imdbId"].strip(), row["tmdbId"].strip()) for _, row in rows}

    def url(item: str) -> str | None:
        filled = template
        for place, identifier in zip(_PLACES, (item, *links.get(item, ("", ""))), strict=True):
            if place in template and not identifier:
                tally.drop("image URLs", f"no {place.strip('{}')} in links.csv", f"movie {item}")
                return None
            filled = filled.replace(place, identifier)
        return filled

    return url
