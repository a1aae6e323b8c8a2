"""The `simulator:` block of a configuration: a data set with known tastes that a run makes for itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recgen.config.strict import Strict


class Simulator(Strict):
    """The data set, with known tastes, that a run makes for itself when the YAML has this block.

    Attributes
    ----------
    base
        A RecBole data set of films, ``ml-100k`` for one: its users, films and ratings are real and only the taste in posters is
        made up, see `recgen.data.simulation.overlay`. Null makes up everything, in the sizes below.
    users, items, interactions_per_user
        Sizes of a data set that is made up.
    tastes_in
        What users have tastes in beside contents: `words`, colours, grounds and patterns, which the vocabulary names; `factors`,
        such as tilt or grain, which no word and no tag names and which differ by degrees; or `both`.
    tastes_per_user
        Into how many classes contents fall; users have a taste in images for each.
    interaction
        Share of such a taste's variance that is the class's own, so that it says nothing about other classes: 0 to 1.
    newcomers, newcomer_interactions
        Share of users who have just come, and how many items they have met.
    like_rate
        Mean share of all possible images that a user likes. At a third, ten items of hundreds hold few of a user's likes however
        they are ranked; what shows in Recall@10 is a rate of a few hundredths, that of clicks.
    taste_strength
        What users' likings of how an image looks are multiplied by; 0 leaves those of contents.
    seed
        Seed of all that is made up.
    """

    base: str | None = None
    users: int = Field(500, ge=2)
    items: int = Field(600, ge=2)
    seed: int = 0
    interactions_per_user: int = Field(100, ge=4)
    tastes_in: Literal["words", "factors", "both"] = "words"
    tastes_per_user: int = Field(1, ge=1)
    interaction: float = Field(1.0, ge=0, le=1)
    newcomers: float = Field(0.0, ge=0, le=1)
    newcomer_interactions: int = Field(8, ge=4)
    like_rate: float = Field(0.35, gt=0, lt=0.9)
    taste_strength: float = Field(1.0, ge=0)
