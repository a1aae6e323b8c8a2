"""What another choice of pictures would have earned, estimated from a log whose propensities are known.

The log holds n events: of each, what was shown with what probability, and what it earned. A policy to be valued would have shown
the same thing with the probability pi; w = pi / propensity.

- *replay* (Li, Chu, Langford and Wang 2011): the mean reward of the events in which the policy would have shown what was shown.
  Right where the log chose at random with equal probabilities and the policy is deterministic.
- *IPS*, inverse propensity scoring (Horvitz and Thompson 1952; Strehl et al. 2010): mean(w r). Unbiased where every choice of the
  policy had a propensity above 0.
- *SNIPS*, self-normalised (Swaminathan and Joachims 2015): sum(w r) / sum(w). Consistent, with less variance, and never outside
  the range of the rewards.

Rewards of one user are not independent, so the intervals draw users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recgen.metrics.personalisation import FloatArray
from recgen.metrics.statistics import Estimate, bootstrap_mean, studentised


def ips(
    rewards: ArrayLike, propensities: ArrayLike, target: ArrayLike, users: ArrayLike, seed: int
) -> Estimate:
    """Return the policy's mean reward by inverse propensity scoring, with a studentised bootstrap interval over users.

    Parameters
    ----------
    rewards
        float ``[n]``, a click as 0 or 1 for one.
    propensities
        float ``[n]`` in (0, 1], the log's probability of what was shown.
    target
        float ``[n]``, the policy's probability of what was shown; for one that always shows one arm, 1 where that was shown.
    users
        ``[n]``.
    seed
        Seed of the bootstrap.

    Examples
    --------
    >>> ips([1, 0, 1, 1], [0.5, 0.5, 0.25, 0.5], [1, 1, 1, 0], list("abcd"), seed=0).value  # (2 + 0 + 4 + 0) / 4
    1.5
    """
    reward, weight = np.asarray(rewards, dtype=np.float64), weights(propensities, target)
    return bootstrap_mean(weight * reward, users, seed)


def snips(
    rewards: ArrayLike, propensities: ArrayLike, target: ArrayLike, users: ArrayLike, seed: int
) -> Estimate:
    """Return the policy's mean reward by self-normalised inverse propensity scoring; arguments as for `ips`.

    No value where nothing that the policy would show was shown.

    Examples
    --------
    >>> snips([1, 0, 1, 1], [0.5, 0.5, 0.25, 0.5], [1, 1, 1, 0], list("abcd"), seed=0).value  # (2 + 0 + 4) / (2 + 2 + 4)
    0.75
    """
    reward, weight = np.asarray(rewards, dtype=np.float64), weights(propensities, target)
    rows = np.unique(np.asarray(users), return_inverse=True)[1]
    totals, sizes = (_array(np.bincount(rows, weights=each)) for each in (weight * reward, weight))
    some = (
        sizes > 0
    )  # a user without any says nothing of the ratio, and a resample of such users alone has none
    if not some.any():
        return Estimate(None, None, None, len(reward))
    low, high = studentised(totals[some], sizes[some], seed, 0.95)
    return Estimate(float(totals.sum() / sizes.sum()), low, high, len(reward))


def replay(
    rewards: ArrayLike, propensities: ArrayLike, target: ArrayLike, users: ArrayLike, seed: int
) -> Estimate:
    """Return the mean reward of the events whose choice the policy shares; arguments as for `ips`.

    Raises
    ------
    ValueError
        Where the propensities are not all alike, or the policy is not deterministic: the mean would then say something else.

    Examples
    --------
    >>> replay([1, 0, 1, 1], [0.5] * 4, [1, 1, 0, 1], list("abcd"), seed=0).n
    3
    """
    propensity, policy = _array(propensities), _array(target)
    if len(propensity) and np.ptp(propensity) > 1e-9:
        raise ValueError("replay needs a log that chose with equal probabilities; take ips or snips")
    if not np.isin(policy, (0.0, 1.0)).all():
        raise ValueError("replay needs a deterministic policy; take ips or snips")
    same = policy == 1
    return bootstrap_mean(_array(rewards)[same], np.asarray(users)[same], seed)


def weights(propensities: ArrayLike, target: ArrayLike) -> FloatArray:
    """Return importance weights float64 ``[n]``.

    Raises
    ------
    ValueError
        For a propensity outside (0, 1] or a target outside [0, 1].
    """
    propensity, policy = _array(propensities), _array(target)
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise ValueError("propensities must be above 0 and at most 1")
    if not ((policy >= 0) & (policy <= 1)).all():
        raise ValueError("a policy's probabilities must be between 0 and 1")
    return policy / propensity


def effective_sample_size(weight: ArrayLike) -> float:
    """Return sum(w)^2 / sum(w^2): how many events chosen by the policy itself would say as much (Kong 1992).

    Examples
    --------
    >>> effective_sample_size([2.0, 2.0, 0.0, 0.0])
    2.0
    """
    values = _array(weight)
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares else 0.0


def arm_values(log: pd.DataFrame, seed: int) -> dict[str, dict[str, Any]]:
    """Return what each arm of a click log would have earned had it been shown everywhere: clicks per picture shown.

    Parameters
    ----------
    log
        A log as `recgen.data.click_log` describes it.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        Arm to ``{"ips": ..., "snips": ..., "replay": ..., "effective": float}``, estimates as mappings; ``replay`` only where
        all propensities are alike.
    """
    clicks, users = log["click"].to_numpy(dtype=np.float64), log["user_id"].to_numpy()
    propensity = log["propensity"].to_numpy(dtype=np.float64)
    equal = bool(len(propensity)) and np.ptp(propensity) <= 1e-9
    found = {}
    for arm in sorted(log["arm"].unique()):
        target = (log["arm"] == arm).to_numpy(dtype=np.float64)
        given = (clicks, propensity, target, users, seed)
        found[str(arm)] = {
            "ips": ips(*given).as_json(),
            "snips": snips(*given).as_json(),
            **({"replay": replay(*given).as_json()} if equal else {}),
            "effective": effective_sample_size(weights(propensity, target)),
        }
    return found


def _array(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
