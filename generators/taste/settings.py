"""Settings of taste; nothing here imports torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from generators.common.settings import PAPER_DECODE, QUICK_DECODE, Refinement
from generators.settings import GeneratorConfig
from recgen.diffusion.sampling import Sampling
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Effort, Held, Workload, sampled

TEXT, WORDS = "{text}", "{words}"
PAIRS_PER_STEP = 16
"""Pairs from which one step of the corrections is learned."""
_STRENGTHS = 7  # that `fit` tries: text alone, every scale, one word less and more guidance at the best


def _has_places(template: str) -> str:
    if TEXT not in template or WORDS not in template:
        raise ValueError(f"a template with {TEXT} for the item's text and {WORDS} for the words of style")
    return template


class Settings(GeneratorConfig):
    """What taste's block of the YAML accepts."""

    sampling_fields = frozenset[str]()
    """None: `fit` draws too, to find the strengths."""
    presets = {"quick": {"trials": 12, "decode": QUICK_DECODE}, "paper": {"decode": PAPER_DECODE}}

    show: Literal["image", "words", "both"] = Field(
        "both", description="how the style is given to the pipeline; words need no IP-Adapter"
    )
    k: int = Field(20, ge=1, description="items whose images make the style of the image embedding")
    catalogue: int = Field(
        20_000, ge=2, description="items looked at, at most; of a larger catalogue a sample by the run's seed"
    )
    keep: float | None = Field(
        0.85,
        gt=0,
        le=1,
        description="share of images that still show the item's content, relative to what its text alone achieves; "
        "null draws with `decode` as it is",
    )
    trials: int = Field(
        24, ge=1, description="training likes drawn under every strength to find out what is kept"
    )
    vocabulary: str | None = Field(
        None, description="a YAML of phrases in groups, some declared as style; null is the captioner's own"
    )
    template: Annotated[str, AfterValidator(_has_places)] = Field(
        f"{TEXT}, {WORDS}", description="the prompt, where there are words of style to show"
    )
    negative_prompt: str = ""
    best_of: int = Field(
        1,
        ge=1,
        description="images drawn per request, from noises of their own; of those that still show the item's content (of all, if "
        "`keep` is null) the one of the best opinion is taken",
    )
    refine: Refinement = Field(
        Refinement.model_validate({}),
        description="gradient ascent of the reward from the image embedding that is shown; costs several drawings a step",
    )
    decode: Sampling = Sampling.model_validate({})

    @model_validator(mode="after")
    def _an_image_can_be_refined(self) -> Settings:
        if (self.refine.steps or self.refine.learn) and self.show == "words":
            raise ValueError("refine with show: image or both, for words have no gradient")
        return self

    def requires_ip_adapter(self) -> bool:
        """Return whether an image embedding is shown; words do not need an IP-Adapter."""
        return self.show != "words"

    def external_files(self) -> list[str]:
        """Return the vocabulary, where it is the user's own."""
        return [] if self.vocabulary is None else [self.vocabulary]

    def workload(self, requests: int, users: int) -> Workload:
        """Return the work: trials and corrections, and the images a request; refining draws anew in every step."""
        decode, refine = self.decode, self.refine
        trials = 0 if self.keep is None else _STRENGTHS * min(self.trials, users)
        fit = sampled(trials + 2 * refine.learn, decode.steps, decode.guidance_scale) + Effort(
            steps=users / 10
        )
        draw = sampled(requests * self.best_of, decode.steps, decode.guidance_scale)
        return Workload(fit + self._climbed(refine.learn), draw + self._climbed(requests * refine.steps))

    def _climbed(self, images: int) -> Effort:
        """Return the work of drawing images whose last steps gradients pass."""
        passes = 2 if self.decode.guidance_scale > 1 else 1
        return Effort(trained=images * self.refine.last * passes, images=images)

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return that the trials are drawn, and the images that corrections are learned from."""
        trials = 0 if self.keep is None else min(self.trials, sizes.users)
        pairs = min(self.refine.learn, PAIRS_PER_STEP, self.decode.batch_size)
        return Held(sampled=trials, gradients=int(self._climbed(pairs).trained))
