"""The networks that the stages of a run share: each is loaded when it is first asked for, and let go of when no task needs it."""

from __future__ import annotations

import gc
from functools import cached_property
from typing import TYPE_CHECKING

from recgen.config.loader import Config
from recgen.core.machine import return_heap
from recgen.diffusion.profiles import profile_of

if TYPE_CHECKING:
    from recgen.diffusion.backbone import Backbone
    from recgen.diffusion.economy import Memory
    from recgen.features.encoders import Encoder, ImageEncoder
    from recgen.features.language import LanguageModel

NAMES = ("backbone", "encoder", "judge_encoders", "language_model")
"""What `Models.release` lets go of."""


class Models:
    """The networks of a run.

    Parameters
    ----------
    config
        The checked configuration, which names them.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.settings
        self._checkpoint: tuple[str, Backbone] | None = None

    @cached_property
    def device(self) -> str:
        """Where networks run, ``cuda``, ``mps`` or ``cpu``: RecBole's `use_gpu` and `gpu_id` decide."""
        from recgen.core.device import choose_device

        return choose_device(bool(self.config.recbole.get("use_gpu", True)))

    @cached_property
    def encoder(self) -> Encoder:
        """The CLIP model of the run."""
        from recgen.core.device import encoder_type
        from recgen.features.encoders import load_encoder

        spec, dtype = self.settings.encoder, encoder_type(self.settings.precision, self.device)
        named = spec if isinstance(spec, str) else spec.model_dump()
        return load_encoder(named, self.device, dtype=dtype)

    @cached_property
    def judge_encoders(self) -> list[ImageEncoder]:
        """What each of the judges sees images through, where that is not the run's encoder."""
        from recgen.features.vision import load_image_encoder

        named = [
            spec if isinstance(spec, str) else spec.model_dump()
            for spec in self.settings.ranker.judge_encoders
        ]
        return [load_image_encoder(spec, self.device, "recgen.ranker.judge_encoder") for spec in named]

    @cached_property
    def backbone(self) -> Backbone:
        """The diffusion pipeline of the run."""
        return self._load_backbone(self.settings.backbone, self.settings.ip_adapter, "recgen.backbone")

    def _load_backbone(self, spec: str, ip_adapter: str | None, key: str) -> Backbone:
        from recgen.diffusion.backbone import load_backbone

        s = self.settings
        return load_backbone(
            spec, ip_adapter, self.device, s.precision, s.lcm_lora, key, self._memory(spec), s.compile
        )

    def _memory(self, spec: str) -> Memory:
        """Return the settings with what they leave to the profile of a pipeline filled in."""
        named = self.settings.profile if spec == self.settings.backbone else "auto"
        memory = self.settings.memory
        if memory.gradient_checkpointing is None:
            chosen = {"gradient_checkpointing": profile_of(spec, named).gradient_checkpointing}
            memory = memory.model_copy(update=chosen)
        return memory

    def backbone_for(self, name: str) -> Backbone:
        """Return the pipeline that a generator draws with: the run's, or the checkpoint that its block names."""
        checkpoint = self.config.generators[name].checkpoint
        if checkpoint is None:
            return self.backbone
        if self._checkpoint is None or self._checkpoint[0] != checkpoint:
            self._checkpoint = None  # one at a time: the last is let go before the next is loaded
            loaded = self._load_backbone(checkpoint, None, f"recgen.{name}.checkpoint")
            self._checkpoint = (checkpoint, loaded)
        return self._checkpoint[1]

    @cached_property
    def language_model(self) -> LanguageModel | None:
        """The causal language model of the run, read when it is first used; None where the configuration names none."""
        if self.settings.llm is None:
            return None
        from recgen.features.language import LanguageModel

        return LanguageModel(self.settings.llm, device=self.device)

    def release(self, *kept: str) -> None:
        """Let go of the models that are loaded, but for those named: backbone, encoder, judge_encoders or language_model.

        Each is loaded again when it is next asked for. What the last task has freed goes back to the system either way.
        """
        from recgen.core.batching import free_memory

        loaded = [name for name in NAMES if name in self.__dict__ and name not in kept]
        for name in loaded:
            del self.__dict__[name]
        if "backbone" not in kept and self._checkpoint is not None:
            self._checkpoint = None
            loaded.append("checkpoint")
        if loaded:
            free_memory()
            if not any(name in self.__dict__ for name in NAMES):
                gc.freeze()  # what outlives every model is code, half a million objects that no later search need go through
        else:
            return_heap()
