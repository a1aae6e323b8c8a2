"""The untrained arms on seeds that nothing was chosen on, as `net_of_content` became the default after seeds 1 to 3 were seen.

Usage: python -m experiments.ragar_repaired.confirm; writes confirm.json.
"""

from __future__ import annotations

from pathlib import Path

from experiments import harness
from experiments.ragar_repaired.measure import ARMS, METRICS, measure, prepared, table

HERE = Path(__file__).parent
PUBLISHED, FORMER, DEFAULT = "as published, untrained", "contents too, untrained", "both, untrained"


def main() -> None:
    """Run what is missing and write confirm.json."""
    given = harness.arguments(__doc__ or "", seeds=(4, 5, 6, 7, 8))
    work = given.work / "ragar_repaired"
    for seed in [] if given.only_collect else given.seeds:
        run = prepared(work, seed)
        for name in (PUBLISHED, FORMER, DEFAULT):
            if not (work / f"arms/{seed}/{name}.parquet").exists():
                measure(run, work / f"arms/{seed}", name, ARMS[name])
    tables = {name: table(work, given.seeds, name) for name in (PUBLISHED, FORMER, DEFAULT)}
    result = {
        "means": {name: harness.means(rows, METRICS) for name, rows in tables.items()},
        "differences": {
            f"{DEFAULT} minus {other}": harness.paired(tables[DEFAULT], tables[other], METRICS)
            for other in (PUBLISHED, FORMER)
        },
    }
    harness.save(result, HERE / "confirm.json")


if __name__ == "__main__":
    main()
