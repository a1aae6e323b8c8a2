"""How fast machines are: this one by a quick probe, named GPUs by published throughputs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recgen.core.errors import UserError, nearest
from recgen.planning.networks import DEMO, SD15, SDXL, DiffusionNetwork

_PROBE = 0.25  # seconds
_STARTED = 0.1  # seconds after which a process of Python's without a package is at work
_SPINNING = 2.0  # seconds that it works at most
_REFERENCE = 4_000.0  # rounds of the probe a second on the core that the cost constants were measured on
CPU_GFLOPS = 30.0
"""float32 GFLOPs a second of a reference core in large networks; small ones have constants of their own."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes
    ----------
    title
        Its name.
    memory
        GiB.
    rates
        Iterations a second of a Stable Diffusion 1.5 pipeline at 512 pixels with guidance, float16, PyTorch 2 without
        compilation, by batch size.
    rates_xl
        The same of SDXL at 1,024 pixels, where published.
    source
        Where the numbers are from.
    """

    title: str
    memory: float
    rates: dict[int, float]
    rates_xl: dict[int, float]
    source: str

    @property
    def alone(self) -> float:
        """Iterations a second with a batch of one; where only larger ones were measured, images a second of the smallest."""
        smallest = min(self.rates)
        return smallest * self.rates[smallest]

    def tflops(self, network: DiffusionNetwork, batch: int) -> float:
        """Return the TFLOPs a second that sampling `batch` images of a pipeline at once reaches."""
        xl = bool(self.rates_xl) and network.evaluation > (SD15.evaluation + SDXL.evaluation) / 2
        rates, of = (self.rates_xl, SDXL) if xl else (self.rates, SD15)
        size = min(rates, key=lambda each: abs(each - batch))
        return rates[size] * 2 * size * of.evaluation / 1e3


_DIFFUSERS = "diffusers' documentation, page 'PyTorch 2.0', up to version 0.25: float16, PyTorch 2.0 without compilation"
_FIRST = "diffusers' documentation 0.14, page 'Torch2.0 support', seconds of 50 steps with SDPA"
GPUS = {
    "a100": Gpu("NVIDIA A100", 80, {1: 21.66, 4: 11.6, 16: 3.04}, {1: 8.64, 4: 2.44, 16: 0.64}, _DIFFUSERS),
    "v100": Gpu("NVIDIA V100", 16, {1: 18.99, 4: 5.96, 16: 1.66}, {}, _DIFFUSERS),
    "t4": Gpu("NVIDIA T4", 16, {1: 6.9, 4: 1.79, 16: 0.427}, {1: 1.15, 4: 0.288}, _DIFFUSERS),
    "3090": Gpu("NVIDIA RTX 3090", 24, {1: 22.56, 4: 6.46, 16: 1.7}, {}, _DIFFUSERS),
    "4090": Gpu(
        "NVIDIA RTX 4090", 24, {1: 40.5, 4: 12.62, 16: 3.17}, {1: 6.8, 4: 2.19, 16: 0.52}, _DIFFUSERS
    ),
    "a10": Gpu("NVIDIA A10", 24, {4: 5.0, 8: 2.56}, {}, _FIRST),
    "h100": Gpu(
        "NVIDIA H100",
        80,
        {1: 33.6, 4: 29.0, 16: 9.35},
        {1: 14.2, 4: 4.0, 16: 1.05},
        "measured, the VAE included (experiments/real_shapes/gpu.json: diffusers 0.42, PyTorch 2.11); SDXL's are the A100's "
        "times 1.64, as NVIDIA's data sheets have memory bandwidths",
    ),
}
"""GPUs that `--gpu` takes."""


def gpu(name: str) -> Gpu:
    """Return a GPU by its short name.

    Raises
    ------
    UserError
        For a name that is not in `GPUS`.
    """
    key = name.lower().removeprefix("rtx").removeprefix("nvidia").strip(" -_")
    if key not in GPUS:
        raise UserError(
            f"--gpu {name}",
            found="a GPU without published numbers here",
            expected=", ".join(GPUS),
            todo=nearest(key, GPUS),
        )
    return GPUS[key]


@dataclass(frozen=True)
class Machine:
    """Where a run is to go: the CPU of this machine, and a GPU that works beside it or None.

    Attributes
    ----------
    speed
        Of one core, in units of the core that the constants of `recgen.planning.costs` were measured on.
    threads
        Threads of torch.
    gpu
        The GPU.
    """

    speed: float = 1.0
    threads: int = 1
    gpu: Gpu | None = None

    @property
    def network_speed(self) -> float:
        """Speed of networks on the CPU: four threads are about twice as fast as one on networks as small as the shipped ones."""
        return self.speed * min(self.threads, 16) ** 0.5

    def seconds(self, gflops: float, network: DiffusionNetwork, batch: int, launches: float) -> float:
        """Return the seconds of so many GFLOPs of a diffusion network in `launches` calls of `batch` rows."""
        if self.gpu is None:
            return gflops / (self.network_speed * (SMALL_GFLOPS if network.edge <= DEMO.edge else CPU_GFLOPS))
        return max(
            gflops / 1e3 / self.gpu.tflops(network, batch),
            launches / (1.2 * self.gpu.alone),
        )


SMALL_GFLOPS = 65.0
"""float32 GFLOPs a second of a reference core in the shipped diffusion networks, the work around them included."""


def probe(processes: int = 1) -> float:
    """Return the speed of a core as it is just now, with whatever else runs on it, relative to the reference's.

    Mostly Python and short calls of NumPy, as small networks are in a run. Long vectorised loops (sorting, exponentials) are not
    in it: they made a core with wide vectors 2.9 times as fast as the reference, and runs are half as fast again on it.

    Parameters
    ----------
    processes
        Those of a run that are at work side by side. As many others are kept busy meanwhile, since two threads of one core, as
        the cores of most rented machines are, are slower together than each alone.
    """
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    small, row = rng.random((96, 96), dtype=np.float32), rng.random(4_096, dtype=np.float32)
    with threadpool_limits(1, "blas"), _busy(processes - 1):
        _round(small, row)
        rounds, started = 0, time.perf_counter()
        while time.perf_counter() - started < _PROBE:
            _round(small, row)
            rounds += 1
        return rounds / (time.perf_counter() - started) / _REFERENCE


@contextmanager
def _busy(others: int) -> Iterator[None]:
    """Keep so many other processes at work."""
    # they end by themselves, for nobody ends them where this process is killed
    body = f"import time; end = time.monotonic() + {_SPINNING}\nwhile time.monotonic() < end: sum(n * n for n in range(2_000))"
    spinning = [sys.executable, "-S", "-E", "-c", body]
    found = [subprocess.Popen(spinning) for _ in range(others)]
    try:
        if found:
            time.sleep(_STARTED)
        yield
    finally:
        for each in found:
            each.kill()
            each.wait()


def _round(small: NDArray[np.float32], row: NDArray[np.float32]) -> None:
    sum(index * index for index in range(2_000))
    for _ in range(10):
        (row * row + row).sum()
    small @ small @ small
