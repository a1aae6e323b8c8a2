"""What a trained ranking model would say of an item if it had another image."""

from __future__ import annotations

from typing import Any

from ranking_models.what_if.base import WhatIf
from ranking_models.what_if.substitute import SubstituteWhatIf
from recgen.core.errors import UserError

__all__ = ["WhatIf", "scorer"]


def scorer(model: Any, mode: str = "exact", dataset: Any = None) -> WhatIf:
    """Return the what-if scorer of a trained model.

    A model that has a method ``what_if(mode) -> WhatIf`` answers by itself, as LATTICE, MICRO and VBPR do. Any other with
    a method ``features(modality)`` gets `SubstituteWhatIf`, which is exact and slow.

    Parameters
    ----------
    model
        A ranking model; it is put in evaluation mode. Make a new scorer when its parameters have changed.
    mode
        ``exact``: equal to putting the image in, rebuilding the graphs and scoring again. ``own_row``: only the item's
        own neighbours are found anew; what that does to other items is left out.
    dataset
        The RecBole dataset of the training interactions, for models that do not keep their users' histories themselves.

    Raises
    ------
    UserError
        When there is no such mode, or the model reads no images, or in training alone, as BM3.
    """
    if mode not in ("exact", "own_row"):
        raise UserError("what-if mode", found=repr(mode), expected="'exact' or 'own_row'")
    if not getattr(model, "scores_by_images", True):
        raise UserError(
            f"ranking model {type(model).__name__}",
            found="a model whose images act in training alone: another image would change none of its scores",
            expected="a model that reads an item's image when it scores",
            todo="Take it as recgen.downstream.model, and LATTICE, MICRO or VBPR as the reward and the judge.",
        )
    if hasattr(model, "what_if"):
        return model.what_if(mode)
    if hasattr(model, "features"):
        return SubstituteWhatIf(model, dataset)
    raise UserError(
        f"ranking model {type(model).__name__}",
        found="a model that reads no images: another image would change none of its scores",
        expected="a model with a method features(modality), or what_if(mode) -> WhatIf",
        todo="Choose MICRO, VBPR or Verifier as the reward and the judge.",
    )
