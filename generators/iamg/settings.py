"""I-AM-G's settings; the defaults are the paper's where it names them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field

from generators.common.settings import PAPER_DECODE, TrainingConfig
from recgen.diffusion.profiles import ImageUse
from recgen.diffusion.sampling import Sampling
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Held

TAGS, INTEREST, DOMAIN = "{tags}", "{interest}", "{domain}"


def _holds_tags(piece: str) -> str:
    if (TAGS in piece) == (INTEREST in piece):
        raise ValueError(f"a piece with either {TAGS} or {INTEREST} where tags go")
    return piece


Piece = Annotated[str, AfterValidator(_holds_tags)]
"""What is added to an item's text: ``{tags}`` stands for its tags or ``{interest}`` for the user's, ``{domain}`` for phi."""


class Settings(TrainingConfig):
    """What I-AM-G's block of the YAML accepts.

    `lambda1`, `lambda2` and `decode` are read in drawing only. Training weighs the parts of eq. 13 by `train_lambda1` and
    `train_lambda2`, so that a study of the strengths does not train again for each.
    """

    needs = frozenset({"tags", "foregrounds"})
    sampling_fields = frozenset({"decode", "lambda1", "lambda2"})
    presets = {
        **TrainingConfig.presets,
        "paper": {"lambda1": 1.0, "decode": PAPER_DECODE},  # appendix A.2; all else is so by default
    }

    rewrite: bool = Field(
        True, description="false is table 7's without interest rewrite: T* is the item's own text"
    )
    ira: bool = Field(True, description="false is table 7's without IRA, in training and in drawing")
    foreground: bool = Field(
        True, description="false is table 7's without foreground extraction: the whole image instead"
    )

    history: int = Field(5, ge=0, le=20, description="k, latest likes whose tags are counted")
    tags: int = Field(8, ge=0, description="H, the user's most frequent tags that rewrite the text")
    domain: str = Field("item", description="phi, what the items are called in the text")
    template: tuple[Piece, ...] = Field(
        (" This {domain} shows {tags}.", " It may appeal to those who like {interest}."),
        description="what follows the item's text, in this order; a piece without tags to show is left out",
    )

    content_tags: bool = Field(
        False,
        description="whether tags that a liked item's own text names count as the user's interest; in the paper they do",
    )

    neighbours: int = Field(5, ge=1, description="K of eqs. 8 and 9")
    heads: int = Field(4, ge=1, description="of IRA's attentions; a divisor of the text condition's width")
    lambda1: float = Field(
        2.0, ge=0, description="weight of the rewritten text in eq. 13, when drawing; 1 in the paper"
    )
    lambda2: float = Field(0.2, ge=0, description="weight of the interest in eq. 13, when drawing")

    train_lambda1: float = Field(1.0, ge=0)
    train_lambda2: float = Field(0.2, ge=0)
    condition_drop: float = Field(0.05, ge=0, lt=1, description="1 - tau of eq. 15")
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    max_steps: int = Field(2000, ge=1)
    evaluate_every: int = Field(100, ge=1)
    decode: Sampling = Sampling.model_validate({"steps": 50, "ip_adapter_scale": 0.3})

    def requires_ip_adapter(self) -> bool:
        """Return True: the adapter's attention is what trains."""
        return True

    def image_use(self) -> ImageUse:
        """Return that the image is one of the parts of eq. 13."""
        return "decoupled"

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return a step's rows, the copied adapter and IRA's three projections."""
        own = 3 * network.text_width**2 if self.ira else 0
        return replace(super().held(sizes, network, language), trained=network.adapter + own)
