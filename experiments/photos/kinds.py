"""Users who like garments by their category, on the pictures of a data set for which `recgen data prepare table` made up users.

    python -m experiments.photos.kinds MADE ITEMS.csv OUT CEILING.json

The users of `--simulate-users` like what demo-clip sees: no other eyes can rank better for them. These like by the category that
people gave a picture (ITEMS.csv: item_id, category), to which no network here was fitted; they meet the same items, and their
choice has the same noise. MADE is the prepared folder, OUT the new one, whose items have no text; CEILING.json gets what a
ranking by the tastes themselves reaches.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.data.convert.simulated_users import DISLIKED, LIKED, RESERVE, STRENGTH
from recgen.recommender.baselines import expected_metrics


def utilities(log: pd.DataFrame, categories: pd.Series, seed: int) -> dict[str, pd.Series]:
    """Return by user of a log (user_id) how much each category is liked: normal, of standard deviation `STRENGTH`."""
    names = sorted(categories.unique())
    return {
        user: pd.Series(
            STRENGTH * numpy_rng(seed, "likes by category", user).standard_normal(len(names)), index=names
        )
        for user in log["user_id"].unique()
    }


def liked(log: pd.DataFrame, categories: pd.Series, seed: int) -> np.ndarray:
    """Return for each encounter of a log (user_id, item_id) whether it is a like, bool ``[n]``; `categories` by item_id."""
    tastes, found = utilities(log, categories, seed), np.zeros(len(log), dtype=bool)
    for user, rows in log.groupby("user_id", sort=False).indices.items():
        utility = tastes[user][categories[log["item_id"].iloc[rows]]].to_numpy() - RESERVE
        found[rows] = numpy_rng(seed, "liked by category", user).random(len(rows)) < expit(utility)
    return found


def ceiling(log: pd.DataFrame, categories: pd.Series, seed: int) -> dict[str, float]:
    """Return the Recall@10 and AUC of a ranking by the tastes themselves, of each user's last like in a log (with `like`)."""
    found = []
    for user, likes in log[log["like"]].groupby("user_id", sort=False):
        mine = likes["item_id"].tolist()
        others = categories.drop(mine[:-1])
        scores, wanted = utilities(likes, categories, seed)[user][others].to_numpy(), others.index == mine[-1]
        rest, own = scores[~wanted], scores[wanted]
        found.append((expected_metrics(scores, wanted, 10)[0], ((rest < own) + (rest == own) / 2).mean()))
    return dict(zip(("recall@10", "auc"), np.mean(found, axis=0).tolist(), strict=True))


def main() -> None:
    """Write the data set, and what there is to find in it."""
    parser = argparse.ArgumentParser(description="users who like garments by their category")
    for name in ("made", "items", "out", "result"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    log = pd.read_csv(given.made / f"{given.made.name}.inter", sep="\t", dtype=str)
    header = log.columns
    log.columns = [name.partition(":")[0] for name in header]
    categories = pd.read_csv(given.items, dtype=str).set_index("item_id")["category"]
    log["like"] = liked(log, categories, 0)
    write_json(given.result, ceiling(log, categories, 0))
    log["rating"] = np.where(log.pop("like"), LIKED, DISLIKED)
    given.out.mkdir(parents=True)
    log.to_csv(given.out / f"{given.out.name}.inter", sep="\t", index=False, header=list(header))
    items = pd.DataFrame({"item_id:token": categories.index.sort_values()})
    items.to_csv(given.out / f"{given.out.name}.item", sep="\t", index=False)
    shutil.copytree(given.made / "images", given.out / "images")


if __name__ == "__main__":
    main()
