"""Vocabularies of the CLIP tagger: groups of phrases, of which an image gets one each, and the sentence that joins them."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
from pydantic import Field

from recgen.assets import FOLDER
from recgen.config.schema import OpenClip
from recgen.config.strict import Strict
from recgen.config.text_models import Tagger
from recgen.config.validation import validate
from recgen.config.yaml_text import parse_yaml
from recgen.core.errors import UserError, nearest
from recgen.core.seeding import numpy_rng


class Group(Strict):
    """Phrases that exclude one another, and the sentences in which CLIP meets them; ``{}`` stands for the phrase."""

    phrases: list[str] = Field(min_length=1)
    prompts: list[str] = Field(["{}"], min_length=1)
    instead: dict[str, str] = Field(
        {}, description="phrases that are given to the images of another phrase: wrong tags, for experiments"
    )


class Vocabulary(Strict):
    """What the tagger can say: the caption, with the names of groups in braces, and the groups by name."""

    caption: str
    groups: dict[str, Group] = Field(min_length=1)
    style: list[str] = Field(
        [], description="groups that say how an image looks; all others say what it shows"
    )
    missing: float = Field(
        0.0, ge=0, lt=1, description="share of the phrases of style that are taken away, for experiments"
    )
    wrong: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the phrases of style that are given to images of another phrase, for experiments",
    )
    seed: int = Field(0, description="which phrases these are")


def vocabulary_file(captioner: str | Tagger, encoder: str | OpenClip) -> Path:
    """Return the vocabulary of a tagger: the user's own; the demo images' words for their encoder; else the general one.

    Raises
    ------
    UserError
        When the user's own is not there.
    """
    if isinstance(captioner, str):
        return FOLDER / "vocabularies" / ("demo.yaml" if encoder == "demo-clip" else "general.yaml")
    path = Path(captioner.tagger)
    if not path.is_file():
        raise UserError("recgen.captioner.tagger", found=f"no file {path}", expected="a YAML of phrases")
    return path


def read_vocabulary(path: Path) -> Vocabulary:
    """Read and check a vocabulary.

    Raises
    ------
    UserError
        For text that is not YAML, an unknown or ill-typed key, or a caption that names no group or an unknown one.
    """
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    found: Vocabulary = validate(Vocabulary, values, str(path), "vocabulary")
    slots = _slots(found.caption, f"{path}: caption")
    for slot in slots:
        if slot not in found.groups:
            raise UserError(
                f"{path}: caption",
                found=f"{{{slot}}}",
                expected=f"names of groups in braces: {', '.join(found.groups)}",
                todo=nearest(slot, found.groups),
            )
    for name in found.style:
        if name not in found.groups:
            raise UserError(
                f"{path}: style",
                found=repr(name),
                expected=f"names of groups: {', '.join(found.groups)}",
                todo=nearest(name, found.groups),
            )
    for name, group in found.groups.items():
        for prompt in group.prompts:
            if _slots(prompt, f"{path}: {name}.prompts") != [""]:
                raise UserError(
                    f"{path}: {name}.prompts", found=repr(prompt), expected="one {} for the phrase"
                )
    return damaged(found)


def damaged(vocabulary: Vocabulary) -> Vocabulary:
    """Return a vocabulary whose tags of style are missing and wrong at its own rates; content keeps all its phrases.

    Of each group of style, the share `missing` of the phrases is dropped, so that its images get the next best, and the share
    `wrong` of what is left is shifted round: an image of one such phrase is given the next one. At least one phrase stays.
    """
    groups = {}
    for name, group in vocabulary.groups.items():
        groups[name] = _damaged(group, vocabulary, name) if name in vocabulary.style else group
    return vocabulary.model_copy(update={"groups": groups})


def _damaged(group: Group, vocabulary: Vocabulary, name: str) -> Group:
    rng = numpy_rng(vocabulary.seed, "damaged vocabulary", item=name)
    order = rng.permutation(len(group.phrases))
    gone = min(round(vocabulary.missing * len(order)), len(order) - 1)
    kept = [group.phrases[place] for place in sorted(order[gone:])]
    mixed = rng.permutation(len(kept))[: round(vocabulary.wrong * len(kept))]
    if len(mixed) < 2:
        return group.model_copy(update={"phrases": kept})
    instead = {kept[said]: kept[meant] for said, meant in zip(mixed, np.roll(mixed, 1), strict=True)}
    return group.model_copy(update={"phrases": kept, "instead": instead})


def _slots(sentence: str, where: str) -> list[str]:
    try:
        return [slot for _, slot, _, _ in string.Formatter().parse(sentence) if slot is not None]
    except ValueError as error:
        raise UserError(where, found=f"{sentence!r} ({error})", expected="braces in pairs") from error
