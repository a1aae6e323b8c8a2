"""What all stages of a run share: its folder, its configuration and what is expensive to read twice."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recgen.config.loader import Config
from recgen.config.schema import Settings
from recgen.core.io import map_features, read_coded, read_ids, read_table, write_bytes
from recgen.core.machine import threads
from recgen.data.at_url import image_file
from recgen.data.request_table import RequestTable
from recgen.data.types import RunData
from recgen.pipeline.inputs import Inputs
from recgen.pipeline.models import Models
from recgen.pipeline.workspace import Workspace
from recgen.recommender import recbole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd

    from recgen.data.types import Request
    from recgen.metrics.distribution import ReferenceSet
    from recgen.recommender.reward import Ranker

REFERENCES = 30_000
"""Images of items that creatives are compared with as a set, at most: as many as COCO-30K, by which generators are compared."""
_STRINGS = ("user_id", "item_id", "split")  # columns of the interactions


def of_judge(kind: str, member: int) -> str:
    """Return the name of the features of a kind, image or redraws, by the encoder of a judge, counted from 0."""
    return f"judge_{kind}" if member == 0 else f"judge_{kind}_{member}"


def threads_of(settings: Settings) -> int:
    """Return how many threads a process of a run is to have where the configuration does not say: a share of the cores."""
    if settings.threads is not None:
        return settings.threads
    return 1 if settings.workers == "auto" else max(threads() // settings.workers, 1)


class RunContext:
    """One run: a configuration at work in a folder.

    Parameters
    ----------
    config
        The checked configuration.
    folder
        The run's folder.
    at_hand
        Whether data that lie at URLs are here; see `Inputs`.

    Attributes
    ----------
    inputs
        The user's data.
    models
        The networks that its stages share.
    """

    def __init__(self, config: Config, folder: Path, at_hand: bool = False) -> None:
        self.config, self.settings = config, config.settings
        self.workspace = Workspace(folder)
        self.inputs = Inputs(config, folder, at_hand)
        self.models = Models(config)
        self.folder = folder

    @cached_property
    def threads(self) -> int:
        """CPU threads of torch and numpy in one process: as asked for, else as in this folder before, else by `threads_of`.

        The order of a floating-point sum follows the number of threads, so a run that is taken up again keeps it.
        """
        record = self.folder / "threads.txt"
        if self.settings.threads is not None:
            return self.settings.threads
        if not record.exists():
            write_bytes(record, f"{threads_of(self.settings)}\n".encode())
        return int(record.read_text())

    def prepare_torch(self) -> None:
        """Make torch and numpy repeat themselves: fixed threads, deterministic kernels where there are any."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        import torch
        from threadpoolctl import threadpool_limits

        from recgen.core.compat import prepare_torchvision
        from recgen.core.device import allow_fast_matmul, repeat_results

        torch.set_num_threads(self.threads)
        threadpool_limits(self.threads, "blas")
        repeat_results()
        prepare_torchvision()
        allow_fast_matmul(self.models.device)

    @cached_property
    def split(self) -> recbole.DatasetSplits:
        """RecBole's datasets, the same for every ranking model of the run: no model's own defaults matter but RecBole's BPR's."""
        from recbole.model.general_recommender.bpr import BPR

        return recbole.split(
            recbole.recbole_config(BPR, self.recbole_keys("BPR")),
            self.config.source,
            self.settings.eval_split,
        )

    @cached_property
    def feedback(self) -> dict[str, recbole.DatasetSplits]:
        """Likes and dislikes by ranking model's name, filled as they are asked for by `recgen.stages.ranker.feedback_splits`."""
        return {}

    @cached_property
    def rankers(self) -> dict[tuple[str, int], Ranker]:
        """Trained models by role and member, kept as they are loaded by `recgen.stages.ranker.load_ranker`."""
        return {}

    @cached_property
    def squares(self) -> dict[tuple[int, int], np.ndarray]:
        """Items' own images by row and edge, kept as `recgen.stages.measure` compares with them."""
        return {}

    @property
    def source(self) -> Path:
        """The folder of the data set's atomic files; a simulated one lies inside the run's folder."""
        return self.inputs.source

    def recbole_keys(self, model: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return RecBole's keys for a model by name: our defaults, the YAML's, the model's own block, then `extra`."""
        from recgen.data.atomic import columns

        files = self.source / self.config.recbole["dataset"]
        fields = columns(files.with_name(f"{files.name}.inter"), self.separator)
        keys = recbole.with_defaults(
            self.config.recbole,
            self.settings.seed,
            self.settings.like_threshold,
            fields,
            files.with_name(f"{files.name}.item").exists(),
        )
        if self.settings.simulator is not None or self.inputs.tables is not None:
            keys["data_path"] = str(self.source.parent)
        folder = self.folder / "recbole"
        return {
            **keys,
            "checkpoint_dir": str(folder),
            **self.settings.ranker.settings.get(model, {}),
            **(extra or {}),
        }

    def recbole_config(self, model: str, extra: dict[str, Any] | None = None) -> Any:
        """Return RecBole's Config of a ranking model by name."""
        cls = recbole.model_class(model, f"{self.config.source}: recgen.ranker")
        return recbole.recbole_config(cls, self.recbole_keys(model, extra))

    @property
    def separator(self) -> str:
        """What separates the columns of the atomic files."""
        return self.config.recbole.get("field_separator", "\t")

    @cached_property
    def items(self) -> pd.DataFrame:
        """dataset/items.parquet, whose images are here."""
        found = read_table(self.folder / "dataset/items.parquet")
        self.inputs.bring_images(found["image"])
        return found

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """dataset/interactions.parquet."""
        return self.coded_interactions().astype(dict.fromkeys(_STRINGS, object))

    def coded_interactions(self) -> pd.DataFrame:
        """Return `interactions` with strings as categories, in less than half of the memory; it is not kept."""
        return read_coded(self.folder / "dataset/interactions.parquet", _STRINGS)

    @property
    def requests(self) -> Sequence[Request]:
        """What is drawn and measured: all that is asked for, or as much of it as the budget has chosen."""
        path = self.folder / "creatives/budget.parquet"
        budget = self.settings.budget
        if budget is None or budget.images is None or not path.is_file():
            return self.asked_for
        import pandas as pd

        chosen = pd.read_parquet(path, columns=["chosen"])["chosen"]
        return [each for each, drawn in zip(self.asked_for, chosen, strict=True) if drawn]

    @cached_property
    def asked_for(self) -> RequestTable:
        """dataset/requests.parquet as requests, in its order."""
        return RequestTable(self.folder / "dataset/requests.parquet")

    @cached_property
    def held_out(self) -> pd.MultiIndex:
        """Pairs (user, item) of likes that neither generators nor the reward may learn from; see `Requests.held_out`."""
        import pandas as pd

        table = (
            pd.read_parquet(self.folder / "dataset/requests.parquet") if self.holds_out else pd.DataFrame()
        )
        if "held_out" not in table:
            return pd.MultiIndex.from_arrays([[], []], names=["user_id", "item_id"])
        pairs = table[["user_id", "held_out"]].explode("held_out").dropna().drop_duplicates()
        return pd.MultiIndex.from_frame(pairs.rename(columns={"held_out": "item_id"}))

    @property
    def holds_out(self) -> bool:
        """Whether likes are held out of what generators and the reward see."""
        requests = self.settings.requests
        return not isinstance(requests, (int, type(None))) and requests.held_out > 0

    def features(self, kind: str) -> tuple[list[str], Any]:
        """Return ids and raw embeddings float32 ``[n, D]`` of the items that have any.

        `kind` is image, text, caption, foreground or, where judges have encoders of their own, as `of_judge` says.
        """
        path = self.folder / f"features/{kind}.safetensors"
        return read_ids(path.with_suffix(".ids.txt")), map_features(path)

    @cached_property
    def data(self) -> RunData:
        """What generators may learn from."""
        from recgen.data.by_number import by_number

        item_ids = self.items["item_id"].tolist()
        items = {token: row for row, token in enumerate(item_ids)}
        table = self.coded_interactions()
        known = (table["split"] != "test").to_numpy()
        if self.holds_out:
            known &= ~table.set_index(["user_id", "item_id"]).index.isin(self.held_out)
        user_ids, rows = by_number(table, item_ids, known)
        del table
        return RunData(
            user_ids,
            item_ids,
            self.items["text"].tolist(),
            [self.image(path) for path in self.items["image"]],
            self._aligned("image", items),
            self._aligned("text", items),
            rows,
            self.settings.seed,
            self._per_item("captions", "caption", "") if "captions" in self.needs else [],
            self._aligned("caption", items) if "captions" in self.needs else None,
            [tuple(words) for words in self._per_item("keywords", "keywords", ())]
            if "keywords" in self.needs
            else [],
            [tuple(words) for words in self._per_item("tags", "tags", ())] if "tags" in self.needs else [],
            self._aligned("foreground", items) if "foregrounds" in self.needs else None,
        )

    @cached_property
    def reference_images(self) -> ReferenceSet:
        """The embeddings of the items' images, which the creatives of every generator are compared with as a set.

        Of more than `REFERENCES` so many are drawn by the seed: comparing them with each other takes their number squared.
        """
        import numpy as np

        from recgen.core.seeding import numpy_rng
        from recgen.metrics.distribution import ReferenceSet

        images = self.data.image_features
        rows = np.flatnonzero(np.isfinite(images).all(axis=1))
        if len(rows) > REFERENCES:
            rng = numpy_rng(self.settings.seed, "reference images")
            rows = np.sort(rng.choice(rows, REFERENCES, replace=False))
        return ReferenceSet(images[rows])

    @property
    def needs(self) -> set[str]:
        """What the features stage makes of the items beside embeddings, where a generator asks for it."""
        asked = {need for spec in self.config.generators.values() for need in spec.needs}
        return asked | {"captions"} if "keywords" in asked else asked  # keywords are made from captions

    def _per_item(self, table: str, column: str, absent: Any) -> list[Any]:
        """Return a column of features/<table>.parquet, one value per item; `absent` for items that are not in it."""
        import pandas as pd

        rows = pd.read_parquet(self.folder / f"features/{table}.parquet")
        found = dict(zip(rows["item_id"], rows[column], strict=True))
        return [found.get(token, absent) for token in self.items["item_id"]]

    def image(self, path: str | None) -> Path | None:
        """Return where an image named in items.parquet lies."""
        return None if path is None else image_file(self.folder, path)

    def _aligned(self, kind: str, rows: dict[str, int]) -> Any:
        import numpy as np

        ids, features = self.features(kind)
        if ids == list(rows):
            return features
        aligned = np.full((len(rows), features.shape[1]), np.nan, dtype=np.float32)
        aligned[[rows[token] for token in ids]] = features
        return aligned

    def write_config(self) -> None:
        """Write the resolved configuration into the run's folder."""
        text = yaml.safe_dump(self.config.resolved(), sort_keys=False, allow_unicode=True)
        write_bytes(self.folder / "config.yaml", text.encode())

    @property
    def roles(self) -> list[str]:
        """The roles for which a ranking model is trained: with `same_judge` the judge is the reward too."""
        return ["judge", "verifier"] if self.settings.ranker.same_judge else ["reward", "judge", "verifier"]

    def resolve_role(self, role: str) -> str:
        """Return the role whose trained model plays `role`."""
        return role if role in self.roles else "judge"

    def clear_cache(self) -> None:
        """Drop what was read from the folder, so that a stage reads what the stages before it have just written."""
        for name in (
            "items",
            "interactions",
            "asked_for",
            "data",
            "reference_images",
            "split",
            "feedback",
            "rankers",
            "squares",
            "held_out",
        ):
            self.__dict__.pop(name, None)
