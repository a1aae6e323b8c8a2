"""Where networks run and in which type, by what this machine has; torch is imported when it is asked."""

from __future__ import annotations

import torch


def choose_device(use_gpu: bool) -> str:
    """Return ``cuda``, ``mps`` or ``cpu``: the first that this machine has, or the CPU where no GPU is wanted."""
    if use_gpu and torch.cuda.is_available():
        return "cuda"
    if use_gpu and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def working_type(precision: str, device: str) -> torch.dtype:
    """Return the type that a `recgen.diffusion.economy.Precision`, or torch's own name of a type, means on a device."""
    if precision == "auto":
        precision = "float32" if device == "cpu" else "bf16" if _has_bf16(device) else "fp16"
    named: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return named.get(precision) or getattr(torch, precision)


def encoder_type(precision: str, device: str) -> torch.dtype:
    """Return the type of the run's encoder: half on a GPU, as CLIP's weights are published, unless float32 is asked for."""
    return torch.float32 if device == "cpu" or precision == "float32" else torch.float16


def _has_bf16(device: str) -> bool:
    """Return whether a GPU calculates with bfloat16 itself: NVIDIA's from Ampere on, Apple's from macOS 14 on."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        torch.ones(1, dtype=torch.bfloat16, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def repeat_results() -> None:
    """Let torch take kernels that give the same result every time, wherever it has any.

    With such kernels it also fills every new tensor with NaN, which shows who reads one before it is written, and takes a
    thirtieth of the time in which small images are drawn; that is turned off.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module's property


def allow_fast_matmul(device: str) -> None:
    """Let an NVIDIA GPU multiply float32 matrices and convolve in TF32."""
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
