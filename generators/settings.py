"""What a generator's settings are, and what a run must know of a method before it loads it.

Nothing here imports torch: a configuration is checked, and a run finds out that nothing is left to do, by settings alone.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from recgen.diffusion.weights import FAMILIES


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

    Notes
    -----
    A method whose settings have a field `checkpoint` draws with that checkpoint, without IP-Adapter, wherever the field is set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[frozenset[str]] = frozenset()
    sampling_fields: ClassVar[frozenset[str]] = frozenset({"decode"})
    families: ClassVar[frozenset[str]] = FAMILIES

    def requires_ip_adapter(self) -> bool:
        """Return whether these settings draw from image embeddings, for which the pipeline needs an IP-Adapter."""
        return False

    def external_files(self) -> list[str]:
        """Return the files, folders and weights beside the run's own that are read; a change of one fits again."""
        return []
