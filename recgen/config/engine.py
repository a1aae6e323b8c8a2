"""The key `recgen.engine`: what does the tasks of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recgen.config.strict import Strict


class RayEngine(Strict):
    """Ray actors in the place of processes.

    Attributes
    ----------
    name
        `ray`.
    address
        A cluster's, as `ray.init` takes it; `auto` is the one that this machine belongs to. Null starts one on this machine for
        the run. All nodes have to see the run's folder and the data under the same paths, and have the same packages.
    gpus
        GPUs of an actor, which may be a part of one; null is one where RecBole's `use_gpu` allows it and the cluster has any.
    """

    name: Literal["ray"] = "ray"
    address: str | None = None
    gpus: float | None = Field(None, ge=0)
