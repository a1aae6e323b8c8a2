"""What a generator's settings are, and what a run must know of a method before it loads it.

Nothing here imports torch: a configuration is checked, and a run finds out that nothing is left to do, by settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from recgen.diffusion.profiles import ImageUse
from recgen.diffusion.sampling import Sampling
from recgen.diffusion.weights import FAMILIES
from recgen.planning.networks import DiffusionNetwork, LanguageNetwork
from recgen.planning.sizes import Sizes
from recgen.planning.workload import Held, Workload, sampled


class GeneratorConfig(BaseModel):
    """Base of every generator's settings: unknown and ill-typed keys are errors.

    A method declares on its settings what the run has to prepare for it.

    Attributes
    ----------
    needs
        What the features stage must have made of the items: a subset of captions, foregrounds, keywords and tags.
    sampling_fields
        Settings that only `Generator.generate` reads: a change of them draws again and does not fit again.
    families
        Families of pipelines (`recgen.diffusion.weights.FAMILIES`) that the method can draw with. A method with none is given no
        backbone.
    presets
        Values by the run's `recgen.preset` (quick, standard, paper), under those that the block gives.

    Notes
    -----
    A method whose settings have a field `checkpoint` draws with that checkpoint, without IP-Adapter, wherever the field is set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[frozenset[str]] = frozenset()
    sampling_fields: ClassVar[frozenset[str]] = frozenset({"decode"})
    families: ClassVar[frozenset[str]] = FAMILIES
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def requires_ip_adapter(self) -> bool:
        """Return whether these settings draw from image embeddings, for which the pipeline needs an IP-Adapter."""
        return False

    def image_use(self) -> ImageUse:
        """Return how these settings use the image condition; how strong that is, the backbone's profile says."""
        return "beside text"

    def external_files(self) -> list[str]:
        """Return the files, folders and weights beside the run's own that are read; a change of one fits again."""
        return []

    def workload(self, requests: int, users: int) -> Workload:
        """Return how much work fitting and drawing are, for `recgen plan`: by default one image a request, as `decode` says.

        Parameters
        ----------
        requests
            Images that are asked for.
        users
            Users of the data set, whom a method may learn from.
        """
        decode = getattr(self, "decode", None)
        if not isinstance(decode, Sampling):
            return Workload()
        return Workload(draw=sampled(requests, decode.steps, decode.guidance_scale))

    def held(self, sizes: Sizes, network: DiffusionNetwork, language: LanguageNetwork) -> Held:
        """Return what fitting holds in memory at the same time, for `recgen plan`: by default nothing but the networks.

        Parameters
        ----------
        sizes
            Of the data set.
        network, language
            The pipeline and the language model that it would fit on.
        """
        return Held()
