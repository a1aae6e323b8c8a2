"""The interface every generator implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from generators.settings import GeneratorConfig
from recgen.data.types import Creative, Request, RunData
from recgen.recommender.reward import RewardModel

if TYPE_CHECKING:
    from recgen.diffusion.backbone import Backbone
    from recgen.features.encoders import Encoder
    from recgen.features.language import LanguageModel

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) while something long runs."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default progress callback."""


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

    def __init__(
        self, config: Any, backbone: Backbone, encoder: Encoder, language_model: LanguageModel | None = None
    ) -> None:
        self.config, self.backbone, self.encoder = config, backbone, encoder
        self.language_model = language_model

    @classmethod  # noqa: B027 (most read no files)
    def check(cls, config: Any, requests: Sequence[Request]) -> None:
        """Raise `UserError` where what `config` names cannot serve `requests`; called before anything is trained."""

    @abstractmethod
    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn from `data`, and from the ranking model `reward` if the method uses one; set `curves` if it has any.

        `reward` and `judge` are `recgen.recommender.reward.Ranker`s. The judge is for curves only: what it says must not
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


class Untrained(Generator):
    """A generator that learns nothing and keeps nothing."""

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn nothing."""

    def save(self, folder: Path) -> None:
        """Write nothing but the empty `folder`."""
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder: Path) -> None:
        """Restore nothing."""
