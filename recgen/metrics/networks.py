"""The two networks that LPIPS and FID are defined by, from weights already on this machine.

Nothing here downloads: a metric whose weights are absent is reported as not available, and never replaced.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recgen.metrics.personalisation import FloatArray

if TYPE_CHECKING:
    import torch

ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's name for it in torch's cache
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's
WANTED = {
    "lpips": (
        "torchmetrics",
        ALEXNET,
        "run `python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\"` "
        "once with a network, or copy the file there",
    ),
    "fid": (
        "torch_fidelity",
        INCEPTION,
        "copy the file of that name from torch-fidelity's release v0.2.0 there",
    ),
}
IMAGES_AT_ONCE = 32


def missing(metric: str) -> str | None:
    """Say what a metric lacks on this machine and what to do about it; None if it can be computed.

    Parameters
    ----------
    metric
        ``"lpips"`` or ``"fid"``.
    """
    package, file, todo = WANTED[metric]
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        return f"the package {name} is not installed; pip install {name}"
    if not (_checkpoints() / file).is_file():
        return f"{file} is not in torch's cache ($TORCH_HOME/hub/checkpoints); {todo}"
    return None


def lpips_pairs(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    device: str = "cpu",
) -> FloatArray:
    """LPIPS (Zhang et al. 2018, AlexNet, v0.1) of ``first[rows[p]]`` with ``second[columns[p]]`` for each
    pair p.

    Parameters
    ----------
    first, second
        uint8 ``[n, H, W, 3]`` and ``[m, H, W, 3]`` RGB, at least 32 x 32.
    rows, columns
        ``[p]`` the pairs.
    device
        Torch device.

    Returns
    -------
    float64 ``[p]``, 0 for equal images.

    Raises
    ------
    FileNotFoundError
        If `missing("lpips")` is not None, with that text.
    """
    import torch

    network = _lpips(device)
    values = np.empty(len(rows), dtype=np.float64)
    with torch.inference_mode():
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            here = slice(start, start + IMAGES_AT_ONCE)
            x, y = (_tensor(p[i[here]]).to(device) / 127.5 - 1 for p, i in ((first, rows), (second, columns)))
            values[here] = network(x, y).reshape(-1).cpu().numpy()
    return values


def inception_features(images: NDArray[np.uint8], device: str = "cpu") -> FloatArray:
    """Features of the pool layer of the FID Inception network, for
    `recgen.metrics.distribution.frechet_distance`.

    Parameters
    ----------
    images
        uint8 ``[n, H, W, 3]`` RGB of any size; the network scales them to 299 x 299 itself.
    device
        Torch device.

    Returns
    -------
    float32 ``[n, 2048]``.

    Raises
    ------
    FileNotFoundError
        If `missing("fid")` is not None, with that text.
    """
    import torch

    network, rows = _inception(device), []
    with torch.inference_mode():
        for start in range(0, len(images), IMAGES_AT_ONCE):
            (batch,) = network(_tensor(images[start : start + IMAGES_AT_ONCE]).to(device))
            rows.append(batch.reshape(len(batch), -1).cpu().numpy())
    return np.concatenate(rows)


@lru_cache(maxsize=1)
def _lpips(device: str) -> torch.nn.Module:
    _require("lpips")
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    from torchmetrics.functional.image.lpips import _LPIPS

    return _LPIPS(net="alex").to(device).eval()


@lru_cache(maxsize=1)
def _inception(device: str) -> torch.nn.Module:
    _require("fid")
    import torch

    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _checkpoints() / INCEPTION
    torch.load(path, weights_only=True)  # refuses anything but tensors, which the class itself would not
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path)).to(device).eval()


def _require(metric: str) -> None:
    reason = missing(metric)
    if reason:
        raise FileNotFoundError(reason)


def _checkpoints() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
