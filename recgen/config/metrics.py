"""The block of metrics that ask a service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recgen.config.strict import Strict
from recgen.config.text_models import Endpoint


class VlmJudge(Strict):
    """A vision-language model that is asked which of two images of an item a user would prefer, in both orders.

    It costs two questions a request and generator, each of which shows `liked` + 2 images.

    Attributes
    ----------
    endpoint
        The service, which must see images.
    against
        What each creative stands beside: `original`, the item's own image; or `swapped`, another user's creative of the same
        item, which `recgen.controls` must name.
    liked
        How many images that the user liked are shown: the latest, of those held out where `recgen.requests.held_out` holds some.
    requests
        How many requests of a generator are asked about, drawn by the seed; null means all.
    """

    endpoint: Endpoint
    against: Literal["original", "swapped"] = "original"
    liked: int = Field(4, ge=1, le=16)
    requests: int | None = Field(200, ge=1)


class Metrics(Strict):
    """Metrics that are measured where their block is given: `vlm`, the preference of a vision-language model; null: none."""

    vlm: VlmJudge | None = None
