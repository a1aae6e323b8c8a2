"""Hostile input: what is read from users' files, changed in ways that people, disks and attackers have."""

from __future__ import annotations

import io
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from attacks import Tally
from PIL import Image

from generators.folder.generator import Images
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import read_json
from recgen.data.atomic import read_atomic
from recgen.data.catalogue import read_image_names
from recgen.data.click_log import read_log
from recgen.data.images import BadImageError, read_image
from recgen.survey.answers import _sheets

NASTY = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80", b"\r", b"\r\n", b"\n\n\n", b"\t", b"\t\t\t\t",
    b'"', b"'", b'"""', b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"-1", b"0", b"9" * 400, b"1_000", b"0x10", b"1,5", b"[PAD]",
    b"None", b"null", b"~", b"true", b"2024-01-01", b"{}", b"[]", b"[[[[[[", b"}}}}", b"!!python/object/apply:os.system [ls]",
    b"&a [*a]", b"*a", b"<<: *a", b"- - - -", b": : :", b"%YAML 9.9", b"---\n---", b"|", b">", b"#", b"../../../../etc/passwd",
    b"/dev/null", b"\x1b[31m", b"\xe2\x80\xae", b"a" * 70_000, b"=1+1", b"$(ls)", b"`ls`", b"%s%s%n", b"user_id:token",
    b"user_id:float_seq", b"rating:token", b":", b"::", b"x:y:z",
]  # fmt: skip
"""Pieces of bytes that have broken programs."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to four changes: bytes, words and lines changed, added, moved, repeated or lost."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        lines = data.split(b"\n")
        line = rng.randrange(len(lines))
        words = lines[line].split(b" ") if b" " in lines[line] else lines[line].split(b"\t")
        words[rng.randrange(len(words))] = rng.choice(NASTY)
        data = rng.choice(
            [
                data[:place] + rng.choice(NASTY) + data[place:],
                data[:place] + rng.choice(NASTY) + data[place + rng.randrange(40) :],
                data[:place] + rng.randbytes(rng.randrange(1, 8)) + data[place + rng.randrange(8) :],
                data[:place],
                data[:place] + data[place + rng.randrange(200) :],
                b"\n".join([*lines[:line], *lines[line:], *lines[line : line + 3]]),
                b"\n".join([*lines[:line], *lines[line + 1 :]]),
                b"\n".join([*lines[:line], b" ".join(words), *lines[line + 1 :]]),
                b"\n".join([*lines[:line], b"\t".join(words), *lines[line + 1 :]]),
                b"\n".join([*lines[:line], lines[line] + b": " + rng.choice(NASTY), *lines[line + 1 :]]),
                b"\n".join(rng.sample(lines, len(lines))),
            ]
        )
    return data


def images() -> list[bytes]:
    """Return images of every format that is read, and of some that are not."""
    found = []
    for mode, kind in (("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"),
                       ("RGB", "WEBP"), ("RGB", "GIF"), ("RGB", "BMP"), ("1", "TIFF")):  # fmt: skip
        buffer = io.BytesIO()
        image = Image.new(mode, (24, 16))
        image.putpixel((3, 3), 1 if mode in ("L", "P", "1", "I;16") else (200,) * len(image.getbands()))
        image.save(buffer, format=kind)
        found.append(buffer.getvalue())
    return found


Case = tuple[str, Sequence[bytes], Callable[[Path], Any], type[Exception]]


def cases(config: Path, dataset: Path, folder: Path) -> Iterator[Case]:
    """Yield what is read: its name, files that are whole, how it is read, and the one error that it may raise.

    Parameters
    ----------
    config
        A configuration.
    dataset
        A folder of atomic files.
    folder
        Where the changed files will be.
    """
    yaml = [
        config.read_bytes(),
        *(Path(path).read_bytes() for path in sorted(Path("recbole_configs").glob("[a-z]*.yaml"))),
    ]
    yield "YAML", yaml, lambda path: load_config(str(path)), UserError
    inter = [(dataset / f"{dataset.name}.inter").read_bytes()[:4000]]
    needed = ["user_id", "item_id", "rating", "timestamp"]
    yield (
        "interactions",
        inter,
        lambda path: read_atomic(path, "\t", needed, ["user_id", "item_id"]),
        UserError,
    )
    items = [(dataset / f"{dataset.name}.item").read_bytes()]
    yield "items", items, lambda path: read_atomic(path, "\t", ["item_id", "title"], ["item_id"]), UserError
    names = [b"item_id,image\ni0,a.png\ni1,b.png\n" * 5, b'"item_id","image"\r\n"i0","a,b.png"\r\n']
    yield "image names", names, lambda path: read_image_names(path, "tiny.yaml"), UserError
    answers = [
        b"study,respondent,question,rank,option\nabc,r1,1,1,A\nabc,r1,1,2,B\n",
        b'{"study": "abc", "respondent": "r1", "answers": [{"question": 1, "ranking": ["A", "B"]}]}',
    ]
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(images()[0])
    manifest = [b"user_id,item_id,path\nu0,i0,a.png\nu1,i1,b.png\n,i2,a.png\n"]
    yield "manifests", manifest, lambda path: Images.read(folder, path.name), UserError
    yield "survey answers", answers, _sheets, UserError
    yield "images", images(), read_image, BadImageError
    yield (
        "bookkeeping",
        [b'{"fingerprint": "ab", "seconds": 1.0, "outputs": {"a": {"size": 1}}}'],
        read_json,
        UserError,
    )
    yield "click logs", [_log()], read_log, UserError


def _log() -> bytes:
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame({"user_id": ["a"], "item_id": ["b"], "clicked": [True]}).to_parquet(buffer)
    return buffer.getvalue()


def hostile(config: Path, dataset: Path, folder: Path, rng: random.Random, count: int) -> Tally:
    """Read so many changed files, in turn of every kind."""
    tally, listed = Tally(), list(cases(config, dataset, folder))
    for turn in range(count):
        name, whole, read, allowed = listed[0] if turn % 3 == 0 else rng.choice(listed[1:])
        data = mutated(rng.choice(whole), rng)
        path = folder / ("hostile.yaml" if name == "YAML" else "hostile.csv")
        path.write_bytes(data)
        tally.tried[f"inputs: {name}"] += 1
        try:
            with redirect_stderr(io.StringIO()):
                read(path)
        except allowed:
            pass
        except Exception:
            tally.tracebacks.append(f"{name}: {data[:300]!r}: {traceback.format_exc()[-1500:]}")
    return tally
