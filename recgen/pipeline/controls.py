"""Which controls a run has, and what their images are called in its folder."""

from __future__ import annotations

from recgen.config.schema import Settings

PREFIX, SWAPPED = "control.", "swapped."
"""Before a control's name, and before the name of the generator whose creatives change hands; no generator's name has a dot."""
KINDS = {
    "original": "generators.controls.images:Original",
    "constant": "generators.controls.images:Constant",
    "random_item": "generators.controls.images:RandomItem",
    "blank": "generators.controls.images:Blank",
    "placebo": "generators.controls.placebo:Placebo",
}
"""The control's class by name; `swapped` has none of its own."""
PLACEBO = f"{PREFIX}placebo"


def shown(settings: Settings) -> list[str]:
    """Return the run's controls that need no generator, by their names in the folder."""
    return [f"{PREFIX}{name}" for name in settings.controls if name in KINDS]


def swapped(settings: Settings) -> list[str]:
    """Return what is measured with creatives of other users: the generators' and the placebo's."""
    if "swapped" not in settings.controls:
        return []
    sources = [*settings.generators, *(name for name in shown(settings) if name == PLACEBO)]
    return [f"{SWAPPED}{source}" for source in sources]


def names(settings: Settings) -> list[str]:
    """Return all controls of a run, in the order in which they are drawn."""
    return [*shown(settings), *swapped(settings)]
