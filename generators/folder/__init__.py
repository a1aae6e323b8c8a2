"""folder: images made elsewhere, judged beside recgen's own generators."""

from typing import TYPE_CHECKING

from generators.folder.settings import Settings
from recgen.core.lazy import exports

if TYPE_CHECKING:
    from generators.folder.generator import Folder, Images

__all__ = ["Folder", "Images", "Settings"]

__getattr__ = exports(__name__, Folder="generator", Images="generator")
