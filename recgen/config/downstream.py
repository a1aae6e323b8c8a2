"""The `downstream:` block of a configuration: the recommender with creatives in place of images."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from recgen.config.strict import Strict


class Rerank(Strict):
    """Lists that the downstream model ranks again when every item of them shows a creative; see `recgen.data.slates`.

    Attributes
    ----------
    users
        Users a draw, two to a list; each sees creatives of all items of the list, and the other's of the same.
    negatives
        Items of a list beside the two users' held-out likes: those that a model without images ranks highest.
    """

    users: int = Field(10, ge=2)
    negatives: int = Field(20, ge=10)


class Downstream(Strict):
    """How a ranking model is retrained with creatives in place of images, and what it then ranks better.

    A draw costs, for each generator, 2 x `items` x `per_item` creatives, and with `rerank` users x (negatives + 2) more.

    Attributes
    ----------
    model
        The ranking model, ours, a plugin's or one of RecBole's own such as LightGCN; null takes the judge's. A model that
        reads no images is trained once per draw: other images change nothing about it.
    controls
        Whether the model is also trained with the images of other items (SHUFFLED) and with none (NONE), which shows whether it
        gains anything from images on these data.
    seeds
        Number of draws: of items, of users and of a seed of training, which all sources share. No p-value comes from fewer than
        five.
    generators
        Whose creatives are asked for, of those among the run's `generators`; null means all of them.
    items
        Items a draw, blind to the test part and stratified by popularity, whose images creatives are mixed into; 0 leaves the
        retraining with creatives out.
    per_item
        Creatives an item: for so many users who like it in the training part, and for as many who have not met it.
    rerank
        Lists to rank again without training; null has none. They need `controls`, whose NONE chooses the negatives.
    mix_weight
        Weight of the mean creative in an item's new image feature; the original image has the rest.
    settings
        RecBole keys of these trainings, over the model's, for example ``{epochs: 8}``.
    """

    model: str | None = None
    controls: bool = True
    seeds: int = Field(5, ge=1)
    generators: list[str] | None = None
    items: int = Field(40, ge=0)
    per_item: int = Field(2, ge=1)
    rerank: Rerank | None = None
    mix_weight: float = Field(0.5, ge=0, le=1)
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _negatives_come_from_a_control(self) -> Downstream:
        if not self.controls and self.rerank is not None:
            raise ValueError("rerank with controls: true, whose NONE chooses the negatives")
        return self
