"""A run's folder opened from Python: what it measured, what it drew, and images that nobody asked for yet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recgen.config.loader import load_config
from recgen.core.errors import UserError, nearest
from recgen.core.io import read_table
from recgen.pipeline.home import local

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from recgen.data.types import Creative, Request
    from recgen.pipeline.context import RunContext
    from recgen.stages.generate import Drawer


class Run:
    """A run that is finished, or as far as it has come.

    Parameters
    ----------
    folder
        The run's folder, or its URL: what is finished there is fetched into the folder that `recgen.pipeline.home` says.

    Raises
    ------
    UserError
        If the folder has no config.yaml.

    Notes
    -----
    Nothing is read before it is asked for, and nothing but `market` writes into the folder. What has been read stays in memory:
    open the folder again to see what a run in progress has finished since.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = local(folder)
        if not (self.folder / "config.yaml").is_file():
            raise UserError(
                f"run folder {folder}",
                found="no config.yaml in it",
                expected="the folder of a run",
                todo="Make one first: recgen run --config ... --out FOLDER.",
            )
        self._drawers: dict[str, Drawer] = {}

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def context(self) -> RunContext:
        """The configuration that the run was last made with, and its models, each loaded when it is first used."""
        return open_run(str(self.folder))

    @property
    def generators(self) -> list[str]:
        """Names of the run's generators, in the order of the configuration."""
        return list(self.context.settings.generators)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds: ``creatives``, ``downstream``, ``tests``, ``unavailable`` and ``run``.

        `recgen.metrics.registry` has an example and what each metric means.

        ``run.metrics["creatives"]["ragar"]["delta_r_judge"]`` is a mapping of ``value``, ``low``, ``high`` (the ends of a 95%
        interval) and ``n``.
        """
        return json.loads(self._file("metrics.json", "evaluate").read_text(encoding="utf-8"))

    @cached_property
    def creatives(self) -> pd.DataFrame:
        """One row per image: user_id, item_id, path (absolute), seed, generator, recipe (a dict), sha256 and seconds.

        `image` reads a path.
        """
        table = read_table(self._file("creatives/manifest.parquet", "generate"))
        if "seconds" not in table:  # where it is, an earlier version of recgen has written it
            took = read_table(self._file("creatives/seconds.parquet", "generate"))
            table["seconds"] = table["path"].map(took.set_index("path")["seconds"])
        return table.assign(
            path=[str((self.folder / path).resolve()) for path in table["path"]],
            recipe=[json.loads(recipe) for recipe in table["recipe"]],
        )

    def image(self, path: str | Path) -> Image.Image:
        """Return an image (RGB) by its path in `creatives`, whether it is a file of its own or packed in a shard (`recgen.pack`).

        Raises
        ------
        recgen.data.images.BadImageError
            If it is not there or damaged.
        """
        from recgen.data.images import read_image

        return read_image(self.folder / path)

    @cached_property
    def per_request(self) -> pd.DataFrame:
        """One row per image and one float column per metric of single images; NaN where it could not be measured."""
        return read_table(self._file("per_request.parquet", "evaluate"))

    @property
    def requests(self) -> Sequence[Request]:
        """The images that the run asked for: at most one per user, the user's reference item."""
        self._file("dataset/requests.parquet", "dataset")
        return self.context.requests

    @property
    def report(self) -> Path:
        """The path of report.html."""
        return self._file("report.html", "report")

    def market(self, **settings: Any) -> dict[str, Any]:
        """Play the simulator as a shop with this run's recommender and generators, and return what came of it.

        Parameters
        ----------
        settings
            Keys below ``recgen.market``, such as ``rounds=2, users=30, effect=0.5``.

        Returns
        -------
        What market/summary.json holds, see `recgen.metrics.market.summary`. What has been played already is not played again.

        Raises
        ------
        UserError
            If the run's data are not simulated, or a setting is unknown.
        """
        from recgen.pipeline import session

        told = [f"recgen.market.{key}={json.dumps(value)}" for key, value in settings.items()]
        found = session.market(self.folder, told)
        self.__dict__.pop("context", None)  # its configuration names the market now
        return found

    def draw(self, user: str, item: str, generator: str | None = None) -> Creative:
        """Draw an image of any item for any user with a generator that the run has fitted.

        Parameters
        ----------
        user, item
            Tokens, as in the data set.
        generator
            A generator of the run; None is its only one.

        Returns
        -------
        The image (RGB) and its whole recipe, as the PNGs of the run carry it.

        A pair that the run has drawn is read from its file: drawn alone instead of among others, a pixel can differ by one of 256
        levels, because the order of a sum follows the batch. For any other pair the history is what the user is known to like
        (no test interaction but those before the item itself, at most 20), and the seed follows from the run's seed, the user
        and the item, as it does for the run's own requests.

        Raises
        ------
        UserError
            For an unknown user, item or generator, and for a generator that the run has not fitted yet.
        """
        name = self._generator(generator)
        request = self.request_for(str(user), str(item))
        return self._drawn(name, request) or self._draw(name, request)

    def _drawn(self, name: str, request: Request) -> Creative | None:
        """Return the image that the run has drawn for a request; None where it has not."""
        from recgen.data.types import Creative

        if not (self.folder / "creatives/manifest.parquet").is_file():
            return None
        table = self.creatives
        same = (table["user_id"] == request.user_id) & (table["item_id"] == request.item_id)
        rows: list[dict[Any, Any]] = table[same & (table["generator"] == name)].to_dict("records")
        for row in rows:
            return Creative(request, name, self.image(row["path"]), row["recipe"], row["seconds"])
        return None

    def _draw(self, name: str, request: Request) -> Creative:
        from recgen.stages.generate import recipe

        drawer = self._drawer(name)
        type(drawer.generator).check(drawer.generator.config, [request])
        (creative,) = drawer.draw([request])
        return replace(creative, recipe=recipe(name, creative))

    def _generator(self, name: str | None) -> str:
        known = self.generators
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            found = "none named" if name is None else repr(name)
            raise UserError(
                f"generator of {self.folder}",
                found=found,
                expected=f"one of {', '.join(known)}",
                todo=nearest(name or "", known),
            )
        return name

    def _drawer(self, name: str) -> Drawer:
        """Return a fitted generator at work, the same one every time."""
        if name not in self._drawers:
            from recgen.stages.generate import Drawer

            if not self.context.workspace.record(f"generator.fit/{name}").is_file():
                raise self._unfinished(f"generator {name} not fitted", "generator.fit")
            self.context.prepare_torch()
            self._drawers[name] = Drawer(self.context, name)
        return self._drawers[name]

    def request_for(self, user: str, item: str) -> Request:
        """Return the request for a user and an item: the run's own, or what it would have asked for.

        Raises
        ------
        UserError
            For an unknown user or item.
        """
        self._file("dataset/requests.parquet", "dataset")
        if (asked := self.context.asked_for.find(user, item)) is not None:
            return asked
        self._known(user, self.context.data.user_rows, "user")
        self._known(item, self.context.data.item_rows, "item")
        return self._new_request(user, item)

    def _new_request(self, user: str, item: str) -> Request:
        """Return the request that the run would have made of a user and an item that it did not ask for."""
        from recgen.data.requests import request_of
        from recgen.data.types import Request

        table = self.context.interactions
        likes = table[(table["user_id"] == user) & table["like"] & (table["split"] != "none")]
        is_reference = (likes["item_id"] == item) & (likes["split"] == "test")
        if is_reference.any():  # as for the run's own requests: what came before it
            likes = likes.iloc[: int(is_reference.to_numpy().nonzero()[0][-1])]
        else:
            likes = likes[likes["split"] != "test"]
        if (
            self.context.holds_out
        ):  # as for the run's own requests: what is held out of their users' histories
            likes = likes[~likes.set_index(["user_id", "item_id"]).index.isin(self.context.held_out)]
        row = request_of(self.context.settings.seed, user, item, likes["item_id"])
        return Request(user, item, row["seed"], tuple(row["history"]))

    def _known(self, token: str, tokens: Iterable[str], what: str) -> None:
        if token not in tokens:
            data = self.context.config.recbole["dataset"]
            raise UserError(
                f"{what} {token!r}",
                found=f"no such {what} in {self.folder}",
                expected=f"a {what} token of the data set {data}",
                todo=nearest(token, tokens),
            )

    def _file(self, name: str, stage: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise self._unfinished(f"no {name}", stage)
        return path

    def _unfinished(self, found: str, stage: str) -> UserError:
        return UserError(
            f"run folder {self.folder}",
            found=found,
            expected=f"a run that is finished up to {stage}",
            todo=f"Finish it first: recgen run --config {self.folder / 'config.yaml'} --out {self.folder} --until {stage}.",
        )


def open_run(folder: str) -> RunContext:
    """Return a run by its folder, with the configuration that it was last run with.

    Raises
    ------
    UserError
        If the folder has no config.yaml.
    """
    from recgen.pipeline.context import RunContext

    path = local(folder)
    if not (path / "config.yaml").is_file():
        raise UserError(f"--run {folder}", found="no config.yaml in it", expected="the folder of a run")
    return RunContext(load_config(str(path / "config.yaml")), path)
