"""What the report reads from a run's folder, each file checked once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recgen.core.errors import UserError
from recgen.core.io import read_features, read_ids, read_table
from recgen.data.at_url import image_file

DEFAULT_GALLERY = 24


@dataclass(frozen=True)
class RunFiles:
    """A finished run, read from its folder; files that a run need not have are empty when absent."""

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> RunFiles:
        """Open a run.

        Raises
        ------
        UserError
            If the folder holds no metrics.json, or one that is not what the evaluate stage writes.
        """
        path = folder / "metrics.json"
        todo = "Run `recgen run` up to the evaluate stage first."
        if not path.is_file():
            raise UserError(
                str(path), found="no such file", expected="the metrics of a finished run", todo=todo
            )
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(str(path), found=f"broken JSON ({error})", expected="JSON", todo=todo) from error
        if not isinstance(metrics, dict) or not metrics.get("creatives"):
            raise UserError(
                str(path), found="no measured creatives", expected='the key "creatives"', todo=todo
            )
        return cls(folder, metrics)

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.resolve().name

    @property
    def generators(self) -> list[str]:
        """Generators with measured creatives, in the order of the run."""
        return list(self.metrics["creatives"])

    @property
    def placebo_noises(self) -> int:
        """Among how many noises the placebo selects; runs from before it was a setting do not say, and took 8."""
        return int(self.facts.get("placebo_noises", 8))

    @property
    def facts(self) -> dict[str, Any]:
        """What metrics.json says about the run itself."""
        return self.metrics.get("run", {})

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.facts.get("seed", 0))

    @cached_property
    def gallery_size(self) -> int:
        """How many requests the gallery shows: `recgen.gallery` of the run's config.yaml, else 24."""
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
        ours = (config or {}).get("recgen") or {}
        return int(ours.get("gallery", DEFAULT_GALLERY))

    @cached_property
    def per_request(self) -> pd.DataFrame:
        """One row per creative with its metrics; user_id, item_id and generator are strings."""
        table = self._table("per_request.parquet", ["user_id", "item_id", "generator"])
        keys = ["user_id", "item_id", "generator"]
        return table.assign(**{key: table[key].astype(str) for key in keys})

    @cached_property
    def items(self) -> dict[str, tuple[str, Path | None]]:
        """Title, else text, and image of every item by token."""
        table = self._table("dataset/items.parquet", ["item_id", "text", "image"])
        titles = table["title"] if "title" in table else table["text"]
        named = zip(table["item_id"], titles, table["text"], table["image"], strict=True)
        return {
            str(item): (
                str(title or text or ""),
                image_file(self.folder, image) if isinstance(image, str) else None,
            )
            for item, title, text, image in named
        }

    @cached_property
    def histories(self) -> dict[tuple[str, str], list[str]]:
        """The history (oldest first) of every request, by user and item."""
        table = self._table("dataset/requests.parquet", ["user_id", "item_id", "history"])
        return {
            (str(user), str(item)): [str(token) for token in history]
            for user, item, history in zip(table["user_id"], table["item_id"], table["history"], strict=True)
        }

    @cached_property
    def creatives(self) -> dict[tuple[str, str, str], Path]:
        """The image's path for every user, item and generator."""
        table = self._manifest
        keys = zip(table["user_id"], table["item_id"], table["generator"], strict=True)
        names = (tuple(str(part) for part in key) for key in keys)
        return {
            (user, item, generator): self.folder / path
            for (user, item, generator), path in zip(names, table["path"], strict=True)
        }

    @cached_property
    def recipes(self) -> dict[tuple[str, str, str], str]:
        """The recipe, as JSON, of every user, item and generator; empty where the manifest has none."""
        table = self._manifest
        if "recipe" not in table:
            return {}
        keys = zip(table["user_id"], table["item_id"], table["generator"], strict=True)
        return {
            (str(user), str(item), str(generator)): str(recipe)
            for (user, item, generator), recipe in zip(keys, table["recipe"], strict=True)
        }

    @cached_property
    def curves(self) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """Training curves: who learned, then series name to (step, value)."""
        found = {}
        for path in sorted(self.folder.glob("ranker/*/training.json")):
            found[f"ranker: {path.parent.name}"] = _epoch_series(self._json(path).get("epochs", []))
        for path in sorted(self.folder.glob("generator/*/curves.json")):
            found[path.parent.name] = {name: _points(points) for name, points in self._json(path).items()}
        return {who: series for who, series in found.items() if any(series.values())}

    @cached_property
    def seconds(self) -> dict[str, float]:
        """How long each finished task took, by name."""
        records = {path.stem: self._json(path) for path in sorted((self.folder / "stages").glob("*.json"))}
        return {name: float(record["seconds"]) for name, record in records.items() if "seconds" in record}

    @cached_property
    def market(self) -> dict[str, Any] | None:
        """What came of the run's market; None where none was played."""
        path = self.folder / "market/summary.json"
        return self._json(path) if path.is_file() else None

    @cached_property
    def bad_images(self) -> list[dict[str, Any]]:
        """Images that could not be used: item_id, file, reason."""
        path = self.folder / "dataset/bad_images.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What a converter noted: source, variant, users where they are no people, kept, dropped; empty without a note."""
        path = self.folder / "dataset/provenance.json"
        try:
            noted = self._json(path) if path.is_file() else {}
            entries = noted["dropped"]
            return {
                "source": str(noted["source"]),
                "variant": str(noted.get("variant", "")),
                "users": str(noted.get("users", "")),
                "kept": {str(what): int(count) for what, count in noted["kept"].items()},
                "dropped": [
                    {"what": str(e["what"]), "why": str(e["why"]), "count": int(e["count"])} for e in entries
                ],
            }
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ):  # a file of that name that no converter wrote
            return {}

    def likeness_beyond_chance(self, generator: str) -> tuple[float, np.ndarray, np.ndarray] | None:
        """How much more a generator's creatives look like their own item's image than like the average
        item's.

        Returns
        -------
        100 x the mean cosine of the creatives with all catalogue images; float64 ``[n]``, CIS minus that
        creative's mean with all catalogue images; and the user of each. None where the embeddings are not
        in the folder.
        """
        paths = [
            self.folder / name for name in ("creatives/embeddings.safetensors", "features/image.safetensors")
        ]
        if not all(path.is_file() for path in paths):
            return None
        chosen = (self._manifest["generator"].astype(str) == generator).to_numpy()
        made, catalogue = _unit(read_features(paths[0])[chosen]), _unit(read_features(paths[1]))
        rows = {token: row for row, token in enumerate(read_ids(paths[1].with_suffix(".ids.txt")))}
        table = self._manifest[chosen]
        own = np.array([rows.get(str(item), -1) for item in table["item_id"]])
        users, made, own = table["user_id"].astype(str).to_numpy()[own >= 0], made[own >= 0], own[own >= 0]
        if not len(own):
            return None
        anyone = 100.0 * made @ catalogue.mean(axis=0)
        return float(anyone.mean()), 100.0 * np.einsum("nd,nd->n", made, catalogue[own]) - anyone, users

    @cached_property
    def _manifest(self) -> pd.DataFrame:
        return self._table("creatives/manifest.parquet", ["user_id", "item_id", "generator", "path"])

    def _table(self, name: str, columns: list[str]) -> pd.DataFrame:
        path = self.folder / name
        if not path.is_file():
            raise UserError(str(path), found="no such file", expected="a file of a finished run")
        table = read_table(path)
        absent = [column for column in columns if column not in table]
        if absent:
            raise UserError(
                str(path), found=f"no column {absent[0]!r}", expected=f"columns {', '.join(columns)}"
            )
        return table

    def _json(self, path: Path) -> dict[str, Any]:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}


def _unit(rows: np.ndarray) -> np.ndarray:
    values = np.asarray(rows, dtype=np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _points(values: Any) -> list[tuple[float, float]]:
    return [(float(step), float(value)) for step, value in values]


def _epoch_series(epochs: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """The summed loss and one validation metric (NDCG if there is one) over a ranking model's epochs."""
    series: dict[str, list[tuple[float, float]]] = {}
    for number, epoch in enumerate(epochs):
        step = float(epoch.get("epoch", number))
        series.setdefault("loss", []).append((step, float(sum(epoch.get("losses", [])))))
        valid = epoch.get("valid") or {}
        shown = next((name for name in valid if "ndcg" in name), next(iter(valid), None))
        if shown is not None:
            series.setdefault(f"valid {shown}", []).append((step, float(valid[shown])))
    return series
