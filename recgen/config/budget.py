"""The `budget:` block of a configuration: how many images may be drawn, and which come first."""

from __future__ import annotations

from pydantic import Field

from recgen.config.strict import Strict


class Budget(Strict):
    """How many images each generator may draw, and what decides which; see `recgen.metrics.budget`.

    Attributes
    ----------
    images
        Images of each generator, at most. Null draws all that is asked for, and the report shows what a smaller budget would
        have earned.
    traffic
        A table (.csv or .parquet) of how often items are seen: columns item_id and views, and user_id where it is known who sees
        them. Null: as often as the log says, the item's share of the interactions times the user's.
    """

    images: int | None = Field(None, ge=1)
    traffic: str | None = None
