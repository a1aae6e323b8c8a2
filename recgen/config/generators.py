"""What a run knows of each generator that its configuration names, before any of them is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recgen.config import plugins
from recgen.config.presets import merged
from recgen.config.validation import validate
from recgen.core.errors import UserError
from recgen.diffusion.profiles import Profile, profile_of
from recgen.diffusion.sampling import LCM, LCM_GUIDANCE, Sampling


@dataclass(frozen=True)
class GeneratorSpec:
    """One configured generator.

    Attributes
    ----------
    name
        Its name in the run: in tables, in paths and in the report.
    kind
        The installed generator that the name stands for: itself, or what its block names as `generator`.
    settings
        Its block, checked, with its defaults filled in, as plain values.
    needs
        What it asks the features stage for: any of captions, foregrounds, keywords and tags, in alphabetical order.
    sampling_fields
        The keys of its block that only drawing reads, in alphabetical order.
    families
        The families of pipelines that it can draw with, in alphabetical order; see `recgen.diffusion.weights`.
    requires_ip_adapter
        Whether it draws from image embeddings, and so needs an IP-Adapter.
    external_files
        The files, folders and weights beside the run's own that it reads.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    needs: tuple[str, ...] = ()
    sampling_fields: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    requires_ip_adapter: bool = False
    external_files: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        name: str,
        kind: str,
        given: Any,
        where: str,
        backbone: Profile,
        preset: str | None = None,
    ) -> GeneratorSpec:
        """Check a generator's block and ask its settings what the run has to prepare.

        Parameters
        ----------
        name, kind
            As in the attributes.
        given
            The block as it stands in the YAML.
        where
            The YAML, for messages.
        backbone
            The profile of the run's backbone, from which comes what the block leaves open of its sampling. A block with a
            `checkpoint` takes that of the checkpoint.
        preset
            The run's preset, whose values the block's own come over.

        Raises
        ------
        UserError
            For an unknown or ill-typed key, or a plugin that cannot be imported.
        """
        model = plugins.settings_class(kind, f"{where}: recgen.generators")
        if preset is not None and isinstance(given, Mapping):
            given = merged(model.presets.get(preset, {}), given)
        checked = validate(model, given, where, f"recgen.{name}")
        decode = getattr(checked, "decode", None)
        if isinstance(decode, Sampling):
            checkpoint = getattr(checked, "checkpoint", None)
            profile = profile_of(checkpoint) if checkpoint else backbone
            sampled = {**profile.sampling(checked.image_use(), _own(given).get("sampler")), **_own(given)}
            checked = validate(model, {**(given or {}), "decode": sampled}, where, f"recgen.{name}")
            _check_guidance(checked, profile, f"{where}: recgen.{name}")
        return cls(
            name,
            kind,
            checked.model_dump(mode="json"),
            tuple(sorted(model.needs)),
            tuple(sorted(model.sampling_fields & model.model_fields.keys())),
            tuple(sorted(model.families)),
            checked.requires_ip_adapter(),
            tuple(checked.external_files()),
        )

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint that it draws with instead of the run's backbone; None for the run's."""
        return self.settings.get("checkpoint")

    @property
    def fit_settings(self) -> dict[str, Any]:
        """The settings of which a change fits again."""
        return {key: value for key, value in self.settings.items() if key not in self.sampling_fields}

    @property
    def draw_settings(self) -> dict[str, Any]:
        """The settings of which a change only draws again."""
        return {key: self.settings[key] for key in self.sampling_fields}


def _own(given: Any) -> dict[str, Any]:
    """Return what a block says of its sampling itself."""
    decode = (given or {}).get("decode") or {}
    return decode.model_dump(exclude_unset=True) if isinstance(decode, Sampling) else dict(decode)


def _check_guidance(checked: Any, profile: Profile, where: str) -> None:
    for key in type(checked).model_fields:
        value = getattr(checked, key)
        if (
            isinstance(value, Sampling)
            and value.sampler == LCM
            and value.guidance_scale > LCM_GUIDANCE
            and not profile.distilled
        ):
            raise UserError(
                f"{where}.{key}.guidance_scale",
                found=f"{value.guidance_scale:g} with the sampler lcm",
                expected=f"1 to {LCM_GUIDANCE:g}: guidance is distilled into an LCM LoRA",
            )


def placebo_decode(specs: Iterable[GeneratorSpec]) -> dict[str, Any] | None:
    """Return the block ``decode`` that a run's placebo is sampled by: the first generator's that has one; None without any."""
    return next((spec.settings["decode"] for spec in specs if "decode" in spec.settings), None)
