"""The interface every generator implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.backbone import Backbone
from recgen.diffusion.weights import FAMILIES
from recgen.features.encoders import Encoder
from recgen.recommender.reward import RewardModel

if TYPE_CHECKING:
    from recgen.features.language import LanguageModel

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) while something long runs."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default progress callback."""


class GeneratorConfig(BaseModel):
    """Base of every generator's `Config`: unknown and ill-typed keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Generator(ABC):
    """Makes an image of an item for a user.

    A creative depends on its request, the config and the weights only: not on batch size, order, device count or what
    ran before. The backbone and the encoder are shared by all generators of a run and are never trained in place.

    Parameters
    ----------
    config
        An instance of the class's own `Config`.
    backbone
        The diffusion pipeline that draws.
    encoder
        The CLIP model whose embeddings `RunData.image_features` holds.
    language_model
        The causal language model of the run (``recgen.llm``), read when it is first used; None where there is none.
    """

    name: ClassVar[str]
    Config: ClassVar[type[GeneratorConfig]]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the features stage must have made of the items for this method: a subset of captions, keywords, tags, foregrounds."""
    sampling_fields: ClassVar[frozenset[str]] = frozenset({"decode"})
    """Fields of `Config` that only `generate` reads: a change of them draws again and does not fit again."""
    backbones: ClassVar[frozenset[str]] = FAMILIES
    """Families of pipelines (`recgen.diffusion.weights.FAMILIES`) that it can draw with. With none it is given no backbone.

    A generator whose `Config` has a field `checkpoint` draws with that checkpoint, without IP-Adapter, wherever the field is set.
    """

    def __init__(
        self, config: Any, backbone: Backbone, encoder: Encoder, language_model: LanguageModel | None = None
    ) -> None:
        self.config, self.backbone, self.encoder = config, backbone, encoder
        self.language_model = language_model

    @classmethod
    def requires_ip_adapter(cls, config: Any) -> bool:
        """Return whether `config` draws from image embeddings, for which the pipeline needs an IP-Adapter."""
        return False

    @classmethod
    def sources(cls, config: Any) -> list[str]:
        """Return the files, folders and weights beside the run's own that `config` names; a change of one fits again."""
        return []

    @classmethod  # noqa: B027 (most read no files)
    def check(cls, config: Any, requests: Sequence[Request]) -> None:
        """Raise `UserError` where `sources` cannot serve `requests`; called before anything is trained."""

    @abstractmethod
    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn from `data`, and from the ranking model `reward` if the method uses one; set `curves` if it has any.

        `reward` and `judge` are `recgen.recommender.reward.RewardModel`s. The judge is for curves only: what it says must not
        change what is learned.
        """

    @abstractmethod
    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in the order of `requests`.

        `reward` is the ranking model that `fit` was given; a method that asks it nothing draws without it.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything `fit` learned to `folder` (safetensors and JSON), the same bytes for the same state."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Restore what `save` wrote."""

    curves: dict[str, list[tuple[int, float]]] = {}
    """Training curves, series name to (step, value); shown in the report."""
