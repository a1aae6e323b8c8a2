"""Controls: images that are not personal, or not of the item, measured beside every generator.

A gain that a control has too is not a gain from personal images. `original` shows the item's own image, `constant` one image to
everybody, `random_item` another item's, `blank` a black one; `placebo` draws several noises under one prompt that knows nothing
of the user and shows the best by the reward, so that its gain is what selecting by a ranking model earns by itself. `swapped`,
another user's creative of the same item, is drawn by the generator under test: see `generators.controls.swapped`.
"""

from typing import TYPE_CHECKING

from generators.controls.settings import PlaceboSettings, Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.controls.images import Blank, Constant, Original, RandomItem
    from generators.controls.placebo import Placebo

__all__ = ["Blank", "Constant", "Original", "Placebo", "PlaceboSettings", "RandomItem", "Settings"]

__getattr__ = exports(
    __name__, Blank="images", Constant="images", Original="images", RandomItem="images", Placebo="placebo"
)
