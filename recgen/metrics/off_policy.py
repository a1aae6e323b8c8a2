"""What another choice of images would have earned, estimated from a log whose propensities are known.

The log holds n events: of each, what was shown with what probability, and what it earned. A policy to be valued would have shown
the same thing with the probability pi; w = pi / propensity.

- *replay* (Li, Chu, Langford and Wang 2011): the mean reward of the events in which the policy would have shown what was shown.
  Right where the log chose at random with equal probabilities and the policy is deterministic.
- *IPS*, inverse propensity scoring (Horvitz and Thompson 1952; Strehl et al. 2010): mean(w r). Unbiased where every choice of the
  policy had a propensity above 0.
- *SNIPS*, self-normalised (Swaminathan and Joachims 2015): sum(w r) / sum(w). Consistent, with less variance, and never outside
  the range of the rewards.
- *DR*, doubly robust (Dudik, Langford and Li 2011): mean(q(pi) + w (r - q(a))), with q a prediction of the reward of what was
  shown, a, and of what the policy would have shown. Unbiased where the propensities or the predictions are right, and with less
  variance than IPS where q says anything. Predictions have to come from other events than those they are used on.

Rewards of one user are not independent, so the intervals draw users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recgen.core.seeding import numpy_rng
from recgen.metrics.personalisation import FloatArray
from recgen.metrics.statistics import Estimate, bootstrap_mean, studentised

SMOOTHING = 20.0
"""Events of its arm's rate that are added to those of a place."""


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


def doubly_robust(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target: ArrayLike,
    shown: ArrayLike,
    expected: ArrayLike,
    users: ArrayLike,
    seed: int,
) -> Estimate:
    """Return the policy's mean reward by the doubly robust estimator; arguments as for `ips`, and two predictions.

    Parameters
    ----------
    shown
        float ``[n]``, the predicted reward of what was shown.
    expected
        float ``[n]``, the predicted reward of what the policy would have shown, in expectation over its choice.

    Examples
    --------
    >>> given = [1, 0, 1, 1], [0.5, 0.5, 0.25, 0.5], [1, 1, 1, 0]
    >>> doubly_robust(*given, [0.5] * 4, [0.5] * 4, list("abcd"), seed=0).value  # 0.5 + (1 - 1 + 2 + 0) / 4
    1.0
    """
    weight = weights(propensities, target)
    values = _array(expected) + weight * (_array(rewards) - _array(shown))
    return bootstrap_mean(values, users, seed)


def predicted_rates(log: pd.DataFrame, arm: str, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return cross-fitted predictions of clicks: of what each event showed, and of `arm` in its place, float64 ``[n]`` each.

    Users are dealt to two halves, and the rates of one half, by arm and, where the log has it, position, predict the other's. A
    rate that was seen little is drawn to that of its arm.

    Parameters
    ----------
    log
        Columns user_id, arm and click, and position where it is known.
    arm
        The arm that the policy shows.
    seed
        Deals the users.
    """
    codes, users = pd.factorize(log["user_id"])
    half = numpy_rng(seed, "halves of a log").permutation(len(users))[codes] % 2
    keys = pd.DataFrame(
        {"arm": log["arm"].to_numpy(), "place": log.get("position", pd.Series(1, log.index)).to_numpy()}
    )
    clicks = log["click"].to_numpy(dtype=np.float64)
    shown, asked = np.zeros(len(log)), np.zeros(len(log))
    for part in (0, 1):
        here = half == part
        rate = _rates(keys[~here], clicks[~here])
        shown[here] = rate(keys[here])
        asked[here] = rate(keys[here].assign(arm=arm))
    return shown, asked


def _rates(keys: pd.DataFrame, clicks: FloatArray) -> Callable[[pd.DataFrame], FloatArray]:
    """Return a function from arms and places to rates of clicks."""
    mean = float(clicks.mean()) if len(clicks) else 0.0
    table = keys.assign(click=clicks)
    by_arm = table.groupby("arm")["click"].mean()
    counted = table.groupby(["arm", "place"])["click"].agg(["sum", "size"])
    prior = by_arm.reindex(counted.index.get_level_values("arm")).to_numpy()
    rates = (counted["sum"] + SMOOTHING * prior) / (counted["size"] + SMOOTHING)

    def rate(wanted: pd.DataFrame) -> FloatArray:
        found = rates.reindex(pd.MultiIndex.from_frame(wanted[["arm", "place"]])).to_numpy()
        arms = by_arm.reindex(wanted["arm"]).fillna(mean).to_numpy()
        return np.where(np.isnan(found), arms, found)

    return rate


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
    """Return what each arm of a click log would have earned had it been shown everywhere: clicks per image shown.

    Parameters
    ----------
    log
        A log as `recgen.data.click_log` describes it.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        Arm to ``{"ips": ..., "snips": ..., "dr": ..., "replay": ..., "effective": float}``, estimates as mappings; ``replay``
        only where all propensities are alike.
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
            "dr": doubly_robust(*given[:3], *predicted_rates(log, str(arm), seed), users, seed).as_json(),
            **({"replay": replay(*given).as_json()} if equal else {}),
            "effective": effective_sample_size(weights(propensity, target)),
        }
    return found


def _array(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
