"""I-AM-G without foreground extraction, without interest rewrite, without IRA (table 7), and what the true taste says of each.

Each arm trains and draws without its part, on the same requests of users that no arm learned from. One more arm puts the user's
tags before the item's, the reverse of the paper's order. result.json is of an earlier recipe: that order, and lambda1 = 1.
Usage: python -m experiments.iamg_ablation.measure
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments import harness, iamg

HERE = Path(__file__).parent
ARMS = {
    "I-AM-G": [],
    "the user's tags first": ['recgen.iamg.template=[", {interest}", ", {tags}"]'],
    "without interest rewrite": ["recgen.iamg.rewrite=false"],
    "without foreground": ["recgen.iamg.foreground=false"],
    "without IRA": ["recgen.iamg.ira=false"],
}


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(61, 62))
    work = given.work / "iamg"
    for name, overrides in ARMS.items():
        for seed in given.seeds:
            file = work / f"ablation/{seed}/{name}.parquet"
            if not given.only_collect and not file.exists():
                run = iamg.prepared(work, seed, overrides)
                made = iamg.fitted(run, work / f"ablation/{seed}/{name}")
                creatives = list(made.generate(iamg.strangers(run, made), run.data))
                iamg.judged(run, creatives).to_parquet(file)
    tables = {name: _table(work, name, given.seeds) for name in ARMS}
    whole = tables["I-AM-G"]
    result = {
        "means": {name: harness.means(rows, iamg.METRICS) for name, rows in tables.items() if len(rows)},
        "I-AM-G minus": {
            name: harness.paired(whole, rows, iamg.METRICS)
            for name, rows in tables.items()
            if len(rows) and rows is not whole
        },
        "requests": {
            name: rows["seed"].value_counts().to_dict() for name, rows in tables.items() if len(rows)
        },
    }
    harness.save(result, HERE / "result.json")


def _table(work: Path, name: str, seeds: list[int]) -> pd.DataFrame:
    """Return an arm's rows of the seeds that have it; users are named by seed and token."""
    files = [work / f"ablation/{seed}/{name}.parquet" for seed in seeds]
    frames = [pd.read_parquet(file) for file in files if file.exists()]
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(user_id=rows["seed"].astype(str) + "/" + rows["user_id"])


if __name__ == "__main__":
    main()
