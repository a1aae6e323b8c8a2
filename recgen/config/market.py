"""The `market:` block of a configuration: the simulator as a shop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from recgen.config.strict import Strict


class Market(Strict):
    """The simulator as a shop, played by `recgen market`, or by the run where the YAML has this block: `recgen.stages.market`.

    Attributes
    ----------
    model
        The ranking model that ranks the pages and learns from the log; null takes the downstream stage's. It is trained as there.
    users
        How many users come.
    candidates
        From how many items, those first in an order by seed that the user has not met, the recommender chooses a user's pages. A
        creative is drawn for each item that a user is shown, once.
    rounds
        How often they come, each time after a training on the log so far.
    pages
        Pages that a user opens a round and arm.
    places
        Items on a page.
    click_model
        `position`, the position-based model, or `cascade`; see `recgen.data.simulation.click_models`.
    position_bias
        How steeply attention falls with the place (position): place k is looked at with probability 1 / k to this power.
    effect
        How much the image matters to a click, from 0 to 1, which is as much as in the simulator's own log.
    negative_control
        Whether all is played a second time with an effect of 0, where no arm can gain anything.
    own_worlds
        Whether each arm has a shop of its own too, whose recommender learns from this arm's clicks only; the A/B test alone needs
        a fraction of the trainings.
    controls
        Arms beside the originals and the generators: `constant`, one image for everybody; `swapped`, each generator's creatives
        of the same items for another user.
    generators
        Whose creatives are shown, out of the run's; null takes all that draw for any user and item.
    seeds
        How often everything is repeated, with other trainings and clicks.
    """

    model: str | None = None
    users: int = Field(40, ge=2)
    candidates: int = Field(30, ge=1)
    rounds: int = Field(3, ge=1)
    pages: int = Field(2, ge=1)
    places: int = Field(10, ge=1, le=100)
    click_model: Literal["position", "cascade"] = "position"
    position_bias: float = Field(1.0, ge=0)
    effect: float = Field(1.0, ge=0, le=1)
    negative_control: bool = True
    own_worlds: bool = True
    controls: list[Literal["constant", "swapped"]] = ["constant", "swapped"]
    generators: list[str] | None = Field(None, min_length=1)
    seeds: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _a_page_is_full(self) -> Market:
        if self.candidates < self.places:
            raise ValueError(
                f"at least as many candidates as places, not {self.candidates} for {self.places}"
            )
        return self
