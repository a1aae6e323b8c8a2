"""FLICKR-AES (Ren et al., ICCV 2017): photos that workers gave one to five, as REBECA takes it: a like is 4 or 5."""

from __future__ import annotations

from pathlib import Path

from recgen.core.errors import UserError
from recgen.data.convert.log import Log, Selection
from recgen.data.convert.raw import is_number, need, split, table, unusable
from recgen.data.convert.tally import Tally
from recgen.data.convert.target import Target, writing
from recgen.data.images import image_index

LIKE, LEAST = 4.0, 100
_RATINGS, _SCORES, _IMAGES = (
    "FLICKR-AES_image_labeled_by_each_worker.csv",
    "FLICKR-AES_image_score.txt",
    "40K",
)


def prepare(raw: Path, out: Path, users: int | None = None, seed: int = 0, min_likes: int = LEAST) -> Target:
    """Convert FLICKR-AES. A photo's token is its file name without ending; it has no text but its mean score.

    Parameters
    ----------
    raw, out
        The folder of the published files, with the photos in ``40K``, and the data set's.
    users, seed
        How many users to draw, and the seed of the draw; None keeps all.
    min_likes
        Likes that a user needs.

    Notes
    -----
    Ratings have no time; the file's order stands in for it.
    """
    with writing(out, raw, "FLICKR-AES", users=users, seed=seed, min_likes=min_likes) as target:
        (ratings,) = need(raw, [_RATINGS], f"{_RATINGS} and the folder {_IMAGES}")
        if not (raw / _IMAGES).is_dir():
            raise UserError(
                f"--raw {raw}", found=f"no folder {_IMAGES}", expected=f"the photos in {raw / _IMAGES}"
            )
        photos = image_index(raw / _IMAGES)
        scores = _scores(raw, target.tally)
        log = target.log(ratings)
        _read_ratings(ratings, log, photos, target.tally)
        for photo in sorted(target.add_interactions(log, Selection(min_likes, LIKE, users, seed))):
            target.add_item(photo, {"score:float": scores.get(photo, "")}, image=photos[photo], where=photo)
    return target


def _scores(raw: Path, tally: Tally) -> dict[str, str]:
    """Return the photos' mean scores, none where the file is absent."""
    path = raw / _SCORES
    rows = split(path, tally, " ", (2,), "scores") if path.is_file() else iter(())
    return {Path(fields[0]).stem: fields[1].strip() for _, fields in rows if is_number(fields[1].strip())}


def _read_ratings(path: Path, log: Log, photos: dict[str, Path], tally: Tally) -> None:
    # the published header and rows have a space after each comma
    for number, row in table(path, tally, ["worker", "imagePair", "score"], "interactions", skip_space=True):
        worker, score = row["worker"].strip(), row["score"].strip()
        photo = Path(row["imagePair"].strip()).stem
        why = unusable(worker) or ("" if is_number(score) else "a score that is no number")
        why = why or unusable(photo) or ("" if photo in photos else f"no such photo in {_IMAGES}")
        if why:
            tally.drop("interactions", why, f"row {number}: {row['imagePair']}")
        else:
            log.add(worker, photo, score)
