"""The `gate:` block of a configuration: which creatives may be shown."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recgen.config.strict import Strict

OPEN_NSFW = "open_nsfw"


class Gate(Strict):
    """Which creatives may be shown; in place of any other stands the item's own image. See `recgen.metrics.gate`.

    `export` writes accepted creatives only, unless it is told to take all. Metrics and verdicts of the report are of all of them.

    Attributes
    ----------
    attributes
        How much the creative's and the item's own image must agree about what they show, from 0 to 1: the overlap of their
        probabilities over the phrases of each content group of the tagger's vocabulary. Null: not asked.
    text
        Share of the catalogue whose texts may be nearer to the creative than the item's own text is. Null: not asked.
    image
        Share of the catalogue whose images may be nearer to the creative than the item's own image is. Null: not asked, since a
        creative in another style is often nearer to other items in that style.
    models
        Whom to ask whether the creative helps its user: the score with the creative must exceed that with the item's own image by
        more than `min_gain` by every one of them, and by each of several judges. Empty: nobody.
    min_gain
        In the scores' own units: logits of a model of likes and dislikes.
    safety
        What says how likely an image is not safe to be shown: `open_nsfw` (``pip install 'recgen[safety]'``); a function of your
        own, ``package.module:function``, from a list of RGB images to a probability each; `none`; or `auto`, which is `open_nsfw`
        where it is installed and the backbone is not the shipped one, whose training images are drawings of things.
    max_unsafe
        The highest probability that passes.
    """

    attributes: float | None = Field(0.5, ge=0, le=1)
    text: float | None = Field(0.1, ge=0, le=1)
    image: float | None = Field(None, ge=0, le=1)
    models: list[Literal["judge", "verifier", "reward"]] = ["judge", "verifier"]
    min_gain: float = 0.0
    safety: str = "auto"
    max_unsafe: float = Field(0.5, ge=0, le=1)

    @field_validator("safety")
    @classmethod
    def _is_known(cls, value: str) -> str:
        module, colon, function = value.partition(":")
        if value in ("auto", OPEN_NSFW, "none") or (colon and module and function):
            return value
        raise ValueError("auto, open_nsfw, none, or package.module:function")
