"""A plan: the tasks of a run with their estimates, what is done, and how it reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from recgen.core.progress import duration
from recgen.planning.estimate import Cost
from recgen.planning.machines import Machine
from recgen.planning.memory import TaskMemory, largest
from recgen.planning.schedule import makespan
from recgen.planning.sizes import Sizes


@dataclass(frozen=True)
class PlannedTask:
    """A task, whether it is done, and its estimate."""

    name: str
    done: bool
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    tasks
        In their order.
    sizes
        Of the data; None where they cannot be told before the dataset stage, and then nothing is estimated.
    machine
        Where it is to run.
    memory
        What tasks that run networks take at most, on the GPU or else on this machine.
    cards
        By the GB of a GPU, the task that takes most there.
    disk
        GiB of the run's folder.
    measured
        The kinds of work whose estimates were put right by what earlier tasks took here.
    price
        Per hour, or None.
    preset
        The configuration's.
    workers
        Processes in which tasks are done side by side.
    waits
        By task the names of those that are done before it.
    """

    tasks: list[PlannedTask]
    sizes: Sizes | None
    machine: Machine
    memory: list[TaskMemory]
    disk: float
    measured: frozenset[str] = frozenset()
    price: float | None = None
    preset: str = ""
    workers: int = 1
    waits: Mapping[str, Collection[str]] = field(default_factory=dict)
    cards: Mapping[int, TaskMemory] = field(default_factory=dict)

    @property
    def left(self) -> list[PlannedTask]:
        """The tasks that are not done."""
        return [task for task in self.tasks if not task.done]

    @property
    def seconds(self) -> float:
        """Estimated seconds until what is left is done."""
        seconds = {task.name: task.cost.seconds for task in self.left}
        return makespan({name: self.waits.get(name, ()) for name in seconds}, seconds, self.workers)

    @property
    def images(self) -> int:
        """Images to draw in what is left."""
        return sum(task.cost.images for task in self.left)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of questions and of answers in what is left."""
        pairs = [task.cost.tokens for task in self.left]
        return sum(asked for asked, _ in pairs), sum(answered for _, answered in pairs)

    @property
    def money(self) -> float | None:
        """What the hours and the endpoints cost; None where neither has a price."""
        asked = sum(task.cost.money for task in self.left)
        hours = 0.0 if self.price is None else self.price * self.seconds / 3600
        return None if self.price is None and not asked else asked + hours

    def line(self) -> str:
        """Return the plan in one line."""
        if not self.left:
            return "Plan: nothing to do"
        if self.sizes is None:
            return f"Plan: {len(self.left)} of {len(self.tasks)} tasks to do"
        parts = [
            f"{len(self.left)} of {len(self.tasks)} tasks to do",
            f"{self.images:,} images to draw",
            f"about {duration(self.seconds)}",
        ]
        return f"Plan: {', '.join(parts)}{f', preset {self.preset}' if self.preset else ''}"


def corrected(tasks: Sequence[PlannedTask], factors: Mapping[str, float]) -> list[PlannedTask]:
    """Return tasks whose seconds are put right by what tasks of their kind took, see `recgen.planning.speeds`."""
    return [
        replace(task, cost=replace(task.cost, seconds=task.cost.seconds * factors.get(task.cost.kind, 1.0)))
        for task in tasks
    ]


def text(plan: Plan) -> str:
    """Return a plan as lines for a terminal: every task with its estimate, then the sums.

    Parameters
    ----------
    plan
        The plan.
    """
    rows = [_row(plan, task) for task in plan.tasks]
    width = max((len(name) for _, name, *_ in rows), default=0)
    lines = [
        f"  {mark:5}  {name:{width}}  {time:>8}  {images:>16}  {memory:>9}".rstrip()
        for mark, name, time, images, memory in rows
    ]
    lines += [f"{len(plan.left)} of {len(plan.tasks)} tasks would be done"]
    return "\n".join([*lines, *(_sums(plan) if plan.sizes is not None and plan.left else [])])


def _row(plan: Plan, task: PlannedTask) -> tuple[str, str, str, str, str]:
    if task.done or plan.sizes is None:
        return "done" if task.done else "to do", task.name, "", "", ""
    images = f"{task.cost.images:,} images" if task.cost.images else ""
    gib = next((found.gib for found in plan.memory if found.task == task.name), 0.0)
    return "to do", task.name, duration(task.cost.seconds), images, f"{gib:.1f} GiB" if gib else ""


def _sums(plan: Plan) -> list[str]:
    gpu, sizes = plan.machine.gpu, plan.sizes
    assert sizes is not None
    where = f"one {gpu.title}" if gpu else f"this machine, {_cores(plan)}"
    asked, answered = plan.tokens
    most = largest(plan.memory)
    each = f" in each of {plan.workers} processes" if plan.workers > 1 else ""
    lines = [
        "",
        f"data     {sizes.users:,} users, {sizes.items:,} items, {sizes.interactions:,} interactions, {sizes.likes:,} likes",
        f"images   {plan.images:,} to draw, {sizes.requests:,} requests for each generator",
        f"time     about {duration(plan.seconds)} on {where}",
        f"memory   {most.gib:.1f} GiB at most{each}, in {most.task}: "
        + ", ".join(f"{item.what} {item.gib:.2f}" for item in most.items if item.gib >= 0.005),
        *(f"GPU      {_card(card, plan.cards[card])}" for card in _worth_naming(plan.cards)),
        f"disk     {plan.disk:.2f} GiB",
    ]
    if asked:
        lines.append(f"tokens   {asked:,} of questions and {answered:,} of answers to ask for")
    if plan.money is not None:
        lines.append(f"money    {plan.money:,.2f}")
    lines.append(f"source   {_source(plan)}")
    if gpu and most.gib > gpu.memory:
        lines.append(f"warning  {most.gib:.0f} GiB do not fit the {gpu.memory:.0f} GiB of the {gpu.title}")
    return lines


def _cores(plan: Plan) -> str:
    """Return what a plan has of the machine: ``2 processes of one thread``."""
    count = plan.machine.threads
    threads = "one thread" if count == 1 else f"{count} threads"
    return f"{plan.workers} processes of {threads}" if plan.workers > 1 else threads


def _worth_naming(cards: Mapping[int, TaskMemory]) -> list[int]:
    """Return the GPUs that are too small, and the smallest that is not."""
    enough = [card for card in sorted(cards) if not _too_small(card, cards[card])]
    return [card for card in sorted(cards) if card not in enough[1:]]


def _too_small(card: int, task: TaskMemory) -> bool:
    return task.gib * 2**30 > card * 1e9


def _card(card: int, task: TaskMemory) -> str:
    if _too_small(card, task):
        return f"{card} GB are too little: {task.task} takes {task.gib:.1f} GiB with batches of one"
    halved = f", its batch halved {_times(task.halved)}" if task.halved else ""
    return f"{card} GB suffice: {task.gib:.1f} GiB at most, in {task.task}{halved}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _source(plan: Plan) -> str:
    gpu = plan.machine.gpu
    start = (
        f"drawing by {gpu.source}; the rest by a probe of this machine" if gpu else "a probe of this machine"
    )
    left = {task.cost.kind for task in plan.left}
    known = sorted(plan.measured & left)
    return f"{start}; measured here before: {', '.join(known)}" if known else start
