"""The market stage: the simulator's users open pages, see the arms' images and click, and the recommender learns from the log.

Arms are the items' own images (`original`), the run's generators, and controls: one image for everybody (`constant`) and each
generator's creatives for another user (``swapped.<generator>``). Two kinds of worlds are played:

- *A/B*: one shop, one recommender; every user sees pages of every arm. What differs between arms is the images alone.
- one world *of each arm*: its recommender learns from clicks on this arm's images only, as Table 4 of RAGAR compares
  recommenders that were trained with different images, but where images change what is clicked.

Both are repeated with an effect of 0 (`negative_control`) and with other seeds. Writes market/log.parquet
(`recgen.data.click_log` with columns effect, world, seed and expected), quality.parquet and summary.json. Creatives and finished
worlds are kept, so that an interrupted market goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from recgen.core.errors import UserError, nearest
from recgen.core.io import write_json, write_parquet
from recgen.core.progress import show
from recgen.core.seeding import seed_for
from recgen.data.click_log import ORIGINAL, write_log
from recgen.data.simulation.click_models import Cascade, ClickModel, PositionBased
from recgen.data.simulation.market import Images, Shop, Visits, World, base_utility, play
from recgen.data.simulation.simulator import Truth
from recgen.metrics.market import summary
from recgen.pipeline.context import RunContext
from recgen.stages import market_images as images
from recgen.stages.market_images import FOLDER, CreativeStore, TrueTaste
from recgen.stages.market_training import LogTrainer, candidates, model_name

AB = "A/B"


def open_market(run: RunContext) -> list[Path]:
    """Play every world that is not played yet and write what came of them."""
    truth = Truth.load(run.folder / "dataset/simulator")
    return play_worlds(run, truth, arms(run, TrueTaste(truth)))


def generators(run: RunContext) -> list[str]:
    """Return whose creatives the market shows.

    Raises
    ------
    UserError
        For a name that is no generator of the run.
    """
    market = run.settings.market
    specs = run.config.generators
    asked = market.generators if market else None
    for name in asked or []:
        if name not in specs:
            raise UserError(
                f"{run.config.source}: recgen.market.generators",
                found=repr(name),
                expected=f"generators of the run: {', '.join(specs)}",
                todo=nearest(name, specs),
            )
    return [name for name, spec in specs.items() if (name in asked if asked else not spec.external_files)]


def arms(run: RunContext, taste: TrueTaste) -> dict[str, Images]:
    """Return the market's arms by name."""
    market = run.settings.market
    assert market is not None
    users = list(candidates(run))
    found = {ORIGINAL: images.original(taste)}
    if images.CONSTANT in market.controls:
        found[images.CONSTANT] = images.constant(run, taste)
    for name in generators(run):
        store = CreativeStore(run, name, taste.read)
        found[name] = images.own(store, taste)
        if "swapped" in market.controls:
            found[f"{images.SWAPPED}{name}"] = images.swapped(store, taste, users, run.settings.seed)
    return found


def play_worlds(run: RunContext, truth: Truth, shown: Mapping[str, Images]) -> list[Path]:
    """Play the A/B test and the world of each arm, with the effect and without, for every seed, and write what came of it.

    Parameters
    ----------
    run
        The run.
    truth
        What its users think.
    shown
        The arms.
    """
    market, folder = run.settings.market, run.folder / FOLDER
    assert market is not None
    visits = Visits(_enough(run, candidates(run)), market.rounds, market.pages, market.places)
    effects = list(dict.fromkeys([market.effect, *([0.0] if market.negative_control else [])]))
    alone = {arm: {arm: each} for arm, each in shown.items()} if market.own_worlds else {}
    worlds = {AB: dict(shown), **alone}
    logs, measured, number = [], [], 0
    for seed in range(market.seeds):
        train = LogTrainer(run, seed, visits.candidates)
        for effect in effects:
            shop = Shop(lambda users, items: base_utility(truth, users, items), click_model(run), effect)
            for name, of in worlds.items():
                path = folder / "worlds" / f"{number:05d}"
                if not (world := _read(path)):
                    key = f"{effect:g}/{name}/{seed}"
                    world = play(
                        shop, of, train, visits, seed_for(run.settings.seed, "market", str(seed)), key
                    )
                    _write(path, world)
                logs.append(world.log.assign(effect=effect, world=name, seed=seed))
                measured.append(world.quality.assign(effect=effect, world=name, seed=seed))
                number += 1
                show("market: worlds", number, market.seeds * len(effects) * len(worlds))
    log, quality = pd.concat(logs, ignore_index=True), pd.concat(measured, ignore_index=True)
    write_log(folder / "log.parquet", log)
    write_parquet(folder / "quality.parquet", quality)
    facts = {
        "model": model_name(run),
        "arms": list(shown),
        **market.model_dump(exclude={"model", "generators"}),
    }
    found = summary(log, quality, list(shown), AB, seed_for(run.settings.seed, "market summary"))
    write_json(folder / "summary.json", {"market": facts, "effects": found})
    return [folder / name for name in ("log.parquet", "quality.parquet", "summary.json")]


def click_model(run: RunContext) -> ClickModel:
    """Return the market's click model."""
    market = run.settings.market
    assert market is not None
    return Cascade() if market.click_model == "cascade" else PositionBased(market.position_bias)


def _enough(run: RunContext, chosen: dict[str, list[str]]) -> dict[str, list[str]]:
    market = run.settings.market
    assert market is not None
    short = [user for user, items in chosen.items() if len(items) < market.places]
    if short or len(chosen) < 2:
        found = f"{len(chosen)} users" if not short else f"user {short[0]!r}, who has met all items but a few"
        raise UserError(
            f"{run.config.source}: recgen.market",
            found=found,
            expected=f"two users or more with {market.places} items that they have not met",
            todo="Ask for fewer places, or simulate more items.",
        )
    return chosen


def _write(path: Path, world: World) -> None:
    """Write a finished world; its log last, so that one with a log is whole."""
    write_parquet(path.with_suffix(".quality.parquet"), world.quality)
    write_log(path.with_suffix(".log.parquet"), world.log)


def _read(path: Path) -> World | None:
    """Return a finished world; None for one that is yet to be played."""
    log, quality = path.with_suffix(".log.parquet"), path.with_suffix(".quality.parquet")
    if not log.is_file() or not quality.is_file():
        return None
    return World(pd.read_parquet(log), pd.read_parquet(quality))
