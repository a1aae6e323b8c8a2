"""The questionnaire as one HTML file that opens without a network and sends nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from recgen.core.errors import UserError
from recgen.core.io import write_bytes
from recgen.data.images import BadImageError, read_image
from recgen.report.images import STRIP_EDGE, data_uri
from recgen.report.run_files import RunFiles
from recgen.report.text import shorten
from recgen.survey.questions import Question, image, plan

HERE = Path(__file__).parent
HISTORY = 8  # latest liked items that are shown
EDGE = 320  # pixels


@dataclass(frozen=True)
class Liked:
    """An item of the history, its image as a ``data:`` address or None."""

    text: str
    uri: str | None


@dataclass(frozen=True)
class Asked:
    """A question as the page shows it: nothing in it says whose an image is."""

    number: int
    item: str
    history: list[Liked]
    options: dict[str, str]


def make(run: str, out: str, items: int = 8, sources: tuple[str, ...] = (), seed: int = 0) -> str:
    """Write a questionnaire and its key, and return a line that says where they are.

    Parameters
    ----------
    run
        A run's folder, finished at least up to generate.
    out
        The HTML file.
    items, sources, seed
        As of `recgen.survey.questions.plan`.

    Raises
    ------
    UserError
        As `plan` does, and for an image that cannot be read.
    """
    files = RunFiles(Path(run), {})
    study = plan(files, items, sources, seed)
    asked = [_asked(files, number, question) for number, question in enumerate(study.questions, start=1)]
    script = (HERE / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        study=study.name,
        questions=asked,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    key = study.write(Path(run))
    write_bytes(Path(out), page.encode("utf-8", errors="replace"))
    return f"{out}: {len(asked)} questions on the images of {', '.join(study.sources)}; whose they are stands in {key}"


def _asked(files: RunFiles, number: int, question: Question) -> Asked:
    history = files.histories[question.user_id, question.item_id][-HISTORY:]
    found = [files.items.get(token, ("", None)) for token in history]
    strip = [Liked(shorten(text, 90) or "(no text)", data_uri(path, STRIP_EDGE)) for text, path in found]
    text = shorten(files.items.get(question.item_id, ("", None))[0], 300) or "(no text)"
    return Asked(number, text, strip, _images(files, question))


def _images(files: RunFiles, question: Question) -> dict[str, str]:
    """Return a question's images as ``data:`` addresses by letter, cut and scaled to one square.

    Its edge is that of the smallest image, at most 320 pixels: shape and sharpness would tell a published image from a
    drawn one.
    """
    opened = {
        letter: _open(image(files, question.user_id, question.item_id, source))
        for letter, source in question.options.items()
    }
    edge = min(EDGE, *(min(each.size) for each in opened.values()))
    return {
        letter: _uri(ImageOps.fit(each, (edge, edge), Image.Resampling.LANCZOS))
        for letter, each in opened.items()
    }


def _open(path: Path | None) -> Image.Image:
    try:
        if path is not None:
            return read_image(path)
        problem = "no image"
    except BadImageError as error:
        problem = str(error)
    raise UserError(str(path), found=problem, expected="an image that can be shown")


def _uri(shown: Image.Image) -> str:
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
