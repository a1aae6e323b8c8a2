"""Mutation testing of the numerical core: `python tests/mutants/run.py [FILE...]`, from the root of the repository.

Every mutant of every file in core.toml runs the tests named there in a process of its own, forked from one that has imported
torch, RecBole and the like; the files on disk are not touched. Outcomes are kept in build/mutants/ by the texts of module and
tests, so that a run that was broken off goes on, and one after a change runs what the change concerns. Survivors must
be listed with their reasons in justified.toml, as changes or as the line before them: the exit status is 1 if one is not, or if
of a listed line none survives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from fork import Changed, Process, preload  # noqa: E402
from mutation import Mutant, mutants  # noqa: E402

HEAVY = [
    "torch",
    "pandas",
    "scipy.stats",
    "pydantic",
    "recbole.data",
    "recbole.trainer",
    "recbole.quick_start",
]
"""What most tests import; of the rest, what a first run of them has imported is imported here for the others."""


@dataclass(frozen=True, eq=False)
class Target:
    """A module, pytest's arguments (its doctests first), and the reasons of mutants that survive."""

    module: str
    tests: list[str]
    justified: dict[str, str]


def targets(only: list[str]) -> list[Target]:
    """Return the configured modules, or those of them that are named."""
    core = tomllib.loads((HERE / "core.toml").read_text())
    justified = tomllib.loads((HERE / "justified.toml").read_text())
    return [
        Target(module, [module, *tests], justified.get(module, {}))
        for module, tests in core.items()
        if not only or module in only
    ]


class Outcomes:
    """What became of mutants, on disk: one line of JSON each, found again by the texts it depends on."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.known = path, {}
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            self.known[entry["key"]] = entry["how"]

    def add(self, key: str, how: str, mutant: Mutant) -> None:
        self.known[key] = how
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "how": how, "change": mutant.change}) + "\n")


def key_of(target: Target, mutant: Mutant) -> str:
    """Return a digest of the changed module, the tests, and the helpers in their folder."""
    digest = hashlib.sha256(mutant.code.encode())
    for test in target.tests[1:]:
        digest.update(test.encode())
        path = ROOT / test
        if path.is_file():
            helpers = [each for each in sorted(path.parent.glob("*.py")) if not each.name.startswith("test_")]
            for each in [path, *helpers]:
                digest.update(each.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Baseline:
    """What the tests of a module do without any change: CPU seconds, and the tests that enter each function by its first line."""

    seconds: float
    calls: dict[int, frozenset[str]]

    def tests_of(self, mutant: Mutant) -> frozenset[str] | None:
        """Return the tests that enter a function around the mutant; None for all, as of code that is run by the import."""
        if not mutant.functions:
            return None
        found = frozenset().union(*(self.calls.get(line, frozenset()) for line in mutant.functions))
        return None if "" in found else found


class Runner:
    """Runs the mutants of one target after another, so many at once."""

    def __init__(self, jobs: int, outcomes: Outcomes) -> None:
        self.jobs, self.outcomes = jobs, outcomes

    def baseline(self, target: Target) -> Baseline:
        """Run the tests on the module as it is.

        Raises
        ------
        SystemExit
            They fail, or never import the module.
        """
        path = (ROOT / target.module).resolve()
        ran = Process(target.tests, watch=path).wait()
        if not ran.passed:
            sys.exit(f"{target.module}: its tests fail without any change\n{ran.output}")
        if target.module.removesuffix(".py").replace("/", ".") not in ran.seen["loaded"]:
            sys.exit(f"{target.module}: {target.tests} never import it")
        preload(ran.seen["loaded"])
        calls = {int(line): frozenset(names) for line, names in ran.seen["calls"].items()}
        return Baseline(Process(target.tests).wait().cpu_s, calls)

    def run(self, target: Target) -> dict[Mutant, str]:
        """Return how the tests ended for every mutant of the target; `unseen` if none of them runs it."""
        keys = {mutant: key_of(target, mutant) for mutant in mutants((ROOT / target.module).read_text())}
        waiting = [mutant for mutant, key in keys.items() if key not in self.outcomes.known]
        if waiting:
            baseline = self.baseline(target)
            note = f"{target.module}: {len(waiting)} mutants, tests of {baseline.seconds:.1f} s"
            print(note, file=sys.stderr, flush=True)
            for mutant, how in self._all(target, waiting, baseline):
                self.outcomes.add(keys[mutant], how, mutant)
        return self.known(target)

    def known(self, target: Target) -> dict[Mutant, str]:
        """Return how the tests ended for those of the target's mutants that were run."""
        keys = {mutant: key_of(target, mutant) for mutant in mutants((ROOT / target.module).read_text())}
        return {m: self.outcomes.known[key] for m, key in keys.items() if key in self.outcomes.known}

    def _all(self, target: Target, waiting: list[Mutant], baseline: Baseline) -> Iterator[tuple[Mutant, str]]:
        running: list[tuple[Mutant, Process]] = []
        left = list(reversed(waiting))
        while left or running:
            while left and len(running) < self.jobs:
                mutant = left.pop()
                only = baseline.tests_of(mutant)
                if only is not None and not only:
                    yield mutant, "unseen"
                    continue
                changed = Changed((ROOT / target.module).resolve(), mutant.code)
                tests = target.tests if only is None else _that_have(target.tests, only)
                process = Process(tests, changed, only, cpu_s=5 + 4 * baseline.seconds)
                running.append((mutant, process))
            for pair in list(running):
                if (ran := pair[1].ended()) is not None:
                    running.remove(pair)
                    yield pair[0], ran.how
            time.sleep(0.01)


def _that_have(arguments: list[str], only: frozenset[str]) -> list[str]:
    """Return pytest's arguments less the files that have none of the tests."""
    files = {name.split("::")[0] for name in only}
    return [each for each in arguments if not (ROOT / each).is_file() or each in files]


def survivors(outcomes: dict[Mutant, str]) -> list[Mutant]:
    """Return the mutants that no test failed on."""
    return [mutant for mutant, how in outcomes.items() if how in ("passed", "unseen")]


def table(results: dict[Target, dict[Mutant, str]]) -> str:
    """Return the counts of every file in Markdown."""
    lines = [
        "| file | mutants | run | killed | of them by time | survived |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    sums = np.zeros(5, dtype=int)
    for target, outcomes in results.items():
        alive, late = len(survivors(outcomes)), sum(how == "time" for how in outcomes.values())
        every = len(mutants((ROOT / target.module).read_text()))
        row = [every, len(outcomes), len(outcomes) - alive, late, alive]
        sums += row
        lines.append("| " + " | ".join([f"`{target.module}`", *map(str, row)]) + " |")
    lines.append("| " + " | ".join(["**all**", *(f"**{n}**" for n in sums)]) + " |")
    return "\n".join(lines) + f"\n\n{100 * sums[2] / max(sums[1], 1):.1f}% of those run were killed."


def disagreements(results: dict[Target, dict[Mutant, str]]) -> list[str]:
    """Return what the survivors and justified.toml do not agree on."""
    found = []
    for target, outcomes in results.items():
        alive = {mutant.change: mutant for mutant in survivors(outcomes)}
        listed = {change: {change, change.split(" -> ")[0]} & target.justified.keys() for change in alive}
        for change, mutant in alive.items():
            if not listed[change]:
                found.append(f"{target.module}:{mutant.line} survived: {change}")
        for name in target.justified.keys() - set().union(*listed.values()):
            found.append(f"{target.module}: justified.toml lists what did not survive: {name}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="modules of core.toml; all of them if left out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--known", action="store_true", help="say what is on record and run nothing")
    arguments: Any = parser.parse_args()
    chosen = targets(arguments.files)
    runner = Runner(arguments.jobs, Outcomes(ROOT / "build/mutants/outcomes.jsonl"))
    if not arguments.known:
        preload(HEAVY)
    results, started = {}, time.monotonic()
    for target in chosen:
        results[target] = runner.known(target) if arguments.known else runner.run(target)
        note = (
            f"{target.module}: {len(survivors(results[target]))} survived, {time.monotonic() - started:.0f} s"
        )
        print(note, file=sys.stderr, flush=True)
    print(table(results))
    wrong = disagreements(results)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
