"""What a generator asks of the networks, counted in rows: the currency in which generators say how much work they are."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Effort:
    """Network evaluations of one piece of work; a row is one latent image at one time step.

    Attributes
    ----------
    images
        Images sampled, each of which the VAE decodes.
    evaluations
        Rows that the denoising network evaluates without gradients: images x steps, twice that with guidance.
    trained
        Rows that it evaluates with gradients.
    encoded
        Images that the VAE encodes.
    texts
        Texts that the language model reads, with gradients where it trains.
    steps
        Optimiser steps of small networks, and whatever else costs some hundredths of a second each.
    """

    images: float = 0.0
    evaluations: float = 0.0
    trained: float = 0.0
    encoded: float = 0.0
    texts: float = 0.0
    steps: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __mul__(self, times: float) -> Effort:
        return Effort(*(getattr(self, each.name) * times for each in fields(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Workload:
    """A generator's work: `fit` once, `draw` for all requests."""

    fit: Effort = Effort()
    draw: Effort = Effort()


@dataclass(frozen=True)
class Held:
    """What fitting a generator holds in memory at the same time, in rows; batches as they are where memory suffices.

    Attributes
    ----------
    trained
        Parameters that train, in float32.
    gradients
        Rows that the denoising network evaluates with gradients together.
    measured
        Rows that it evaluates without gradients together, to measure the loss.
    encoded
        Whether the VAE encodes images.
    sampled
        Images sampled together, at most.
    read
        Texts that the language model reads with gradients together. Where images are sampled their activations wait meanwhile.
    own
        float32 numbers that a network of the method's own has as activations.
    """

    trained: float = 0.0
    gradients: int = 0
    measured: int = 0
    encoded: bool = False
    sampled: int = 0
    read: int = 0
    own: float = 0.0


def sampled(images: float, steps: int, guidance_scale: float) -> Effort:
    """Return the effort of sampling images.

    >>> sampled(10, 20, 7.5).evaluations
    400
    """
    return Effort(images=images, evaluations=images * steps * (2 if guidance_scale > 1 else 1))
