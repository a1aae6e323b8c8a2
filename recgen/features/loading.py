"""Loads networks of transformers without running code that comes with them, and refuses weights that are no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from recgen.core.errors import UserError, brief

T = TypeVar("T")


def loaded(load: Callable[[], T], where: str, spec: str, expected: str, todo: str) -> T:
    """Return what `load` returns; whatever it raises becomes a `UserError` that names the key `where` and the model `spec`.

    transformers, open_clip and the hub raise many kinds of errors; each means that the model cannot be had.
    """
    try:
        with no_remote_code():
            return load()
    except Exception as error:
        raise UserError(
            where, found=f"{spec}, which cannot be loaded ({_reason(error)})", expected=expected, todo=todo
        ) from error


def pretrained(kind: Any, folder: Any, **options: Any) -> Any:
    """Return a network of transformers, all of whose weights are in its files, in the shapes of its configuration, and finite.

    Parameters
    ----------
    kind
        A class with `from_pretrained`, such as ``AutoModelForCausalLM``.
    folder
        The model's folder or id; code in it is never run.

    Raises
    ------
    ValueError
        For weights that are missing, of another shape, or not finite; the first is named.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # the run's log has its own
    model, report = kind.from_pretrained(
        folder, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    for name, *shapes in sorted(report["mismatched_keys"]):
        raise ValueError(f"its weight {name} is of the shape {tuple(shapes[0])}, not {tuple(shapes[1])}")
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"no weight {missing[0]} in it, and {len(missing) - 1} more are missing")
    check_finite(model)
    return model


def check_finite(model: Any) -> None:
    """Raise a ValueError that names the first weight of a torch module that holds NaN or infinity."""
    import torch

    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel():
            low, high = torch.aminmax(
                weight.detach()
            )  # NaN propagates; unlike isfinite, nothing is allocated
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise ValueError(f"its weight {name} holds values that are not finite")


@contextmanager
def no_remote_code() -> Iterator[None]:
    """Make transformers refuse a model's own code at once, where it would ask on the terminal.

    open_clip loads text towers and tokenizers by transformers and has no way to pass ``trust_remote_code=False`` to all of them.
    """
    from transformers import dynamic_module_utils

    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


def _reason(error: Exception) -> str:
    """Return the line of an error that says most: torch names the weight of another shape behind a line that names none."""
    lines = str(error).splitlines()
    told = next((line.strip() for line in lines if "size mismatch" in line or "Missing key" in line), "")
    return told[:300] or brief(error)
