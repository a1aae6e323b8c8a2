"""The block `tune`: what `recgen tune` tries and what it looks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from recgen.config.strict import Strict


class Range(Strict):
    """Numbers to try from `low` to `high`, both included: whole ones where both are whole; `step` apart, or on a `log` scale."""

    low: int | float
    high: int | float
    step: int | float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"low at most high, not {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log, low above 0 and no step")
        return self


class Choice(Strict):
    """Values to try, in no order."""

    choices: list[bool | int | float | str] = Field(min_length=1)


def _tried(given: Any) -> str:
    return (
        "choice" if isinstance(given, Choice) or (isinstance(given, dict) and "choices" in given) else "range"
    )


Tried = Annotated[Annotated[Range, Tag("range")] | Annotated[Choice, Tag("choice")], Discriminator(_tried)]


Objective = Literal["recall@10", "ndcg@10", "market_uplift", "judge_net_of_swapped"]


class Tune(Strict):
    """What `recgen tune` tries, and what it looks for.

    Attributes
    ----------
    generators
        Whose settings are tried, out of the run's `generators`; null means all of them. With several, a trial's value is the mean
        over them; they do not influence each other, so a study for each finds more in the same time.
    space
        What is tried, by key below `recgen:`, as in ``{ragar.k: {low: 1, high: 10}, ragar.reward_sign: {choices: [...]}}``; null
        takes the usual ones that the generators have, see `recgen.tuning.space`.
    objectives
        Two names for two objectives; weights, ``{recall@10: 0.5, ndcg@10: 0.5}``, for their weighted sum as the only one. Beside
        the downstream stage's: `market_uplift`, the clicks per 1,000 pages that the creatives gain over the originals in the
        simulator's market, and `judge_net_of_swapped`, how many standard deviations of the user's scores the judge gives more for
        an item with the user's own creative than with another user's. See `recgen.tuning.objectives`.
    measure
        `retrained`: the downstream model retrained with creatives drawn for an item's audience, less the same with creatives
        drawn for others, over all users. `reranked`: lists ranked again with users' own creatives, less the same with other
        users', over the users of the lists. See `recgen.stages.downstream`.
    prune
        Whether a trial with one objective ends early that is worse than the median of those before it after as many seeds.
    startup_trials
        How many trials are random before the sampler (TPE) learns from them; and before any is pruned, half as many.
    keep
        How many trials keep the files that others may take over: the best, then the latest of those that were pruned or failed.
        The others keep what they measured.
    study
        The study's name in its storage; null takes the configuration's.
    heartbeat
        Seconds between two signs of life that a worker leaves in a database; one that is silent for three is taken for dead.
    """

    generators: list[str] | None = Field(None, min_length=1)
    space: dict[str, Tried] | None = Field(None, min_length=1)
    objectives: list[Objective] | dict[Objective, float] = ["recall@10", "ndcg@10"]
    measure: Literal["retrained", "reranked"] = "retrained"
    prune: bool = True
    startup_trials: int = Field(10, ge=1)
    keep: int = Field(20, ge=1)
    study: str | None = None
    heartbeat: int = Field(60, ge=1)

    @model_validator(mode="after")
    def _some_objective(self) -> Tune:
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives, each once")
        if isinstance(self.objectives, dict) and not all(weight > 0 for weight in self.objectives.values()):
            raise ValueError("weights above 0")
        return self
