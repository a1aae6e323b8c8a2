"""Work-arounds for other projects' releases, each with its upstream issue; nothing else lives here."""

from __future__ import annotations

import importlib.util


def prepare_torchvision() -> None:
    """Make `import torchvision` work beside a CPU build of torch.

    PyPI's torchvision carries operators compiled for the CUDA build of torch; beside a CPU build they do not load and the
    import fails with "operator torchvision::nms does not exist" (pytorch/vision issue 8373), and transformers, peft, diffusers and
    open_clip fail with it. Defining the two schemas is enough: nothing here calls the operators.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP.append(library)


_KEEP: list[object] = []  # a Library undoes its definitions when it is collected
