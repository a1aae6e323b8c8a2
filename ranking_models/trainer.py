"""RecBole's trainer for our models: tensor-only checkpoints, the best epoch tested, wide evaluation batches."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType
from safetensors.torch import load_file

from ranking_models.base import FeatureRecommender
from ranking_models.checkpoint import load, save, write_json, write_tensors
from ranking_models.sampling import UserUniformBatches
from recgen.core.compat import recbole_tensorboard
from recgen.core.errors import UserError

SCORES_PER_STEP = 1 << 22
"""Scores of one evaluation step: 16 MB; the number of users follows from the number of items."""


class RankingTrainer(Trainer):  # type: ignore[misc]  # untyped
    """RecBole's `Trainer` with what our models need; RecBole's own models may be trained by it too.

    Parameters
    ----------
    config
        RecBole config; beside RecBole's keys it reads ``lr_decay``, ``lr_decay_epochs``, ``log_tensorboard``, ``sampling`` and
        ``momentum_between_rebuilds``, which the models' YAMLs explain.
    model
        The model to train. After `fit` it holds the parameters of the best validated epoch (the last one if nothing was
        validated), whether or not a checkpoint was asked for: RecBole tests the last epoch with ``saved=False`` (issue 1547).

    Attributes
    ----------
    history
        One dict per epoch: epoch, seconds, losses (list of float), and valid (dict) if it was validated.
    on_epoch
        Called with the number of the epochs trained so far and of all, after each; None for silence.
    """

    saved_model_file: str

    def __init__(self, config: Any, model: Any) -> None:
        with recbole_tensorboard(bool(config["log_tensorboard"])):
            super().__init__(config, model)
        self.saved_model_file = str(Path(self.saved_model_file).with_suffix(""))  # a folder, not a pickle
        if config["sampling"] == "users" and config["train_neg_sample_args"].get("dynamic", False):
            raise UserError(
                "key 'train_neg_sample_args'",
                found="dynamic negatives with sampling: users, which draws its own negatives",
                expected="one of the two",
                todo="Set sampling: interactions.",
            )
        self.history: list[dict[str, Any]] = []
        self.on_epoch: Callable[[int, int], None] | None = None
        self._best: tuple[dict[str, torch.Tensor], Any] | None = None

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super()._build_optimizer(**kwargs)
        if self.config["momentum_between_rebuilds"]:
            # specification 4.6: with gradients set to None, torch 2's Adam leaves the graph's parameters where they are
            # in all batches but one an epoch, and they move ten times less than the reference's
            set_to_zero = optimizer.zero_grad
            optimizer.zero_grad = lambda set_to_none=False: set_to_zero(set_to_none=False)
        return optimizer

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        started = time.perf_counter()
        self._set_learning_rate(epoch_idx)
        if self.config["sampling"] == "users":
            train_data = UserUniformBatches(train_data, seed=self.config["seed"], epoch=epoch_idx)
        with self._epoch(epoch_idx):
            losses = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        steps = len(train_data)
        means = [loss / steps for loss in (losses if isinstance(losses, tuple) else (losses,))]
        self.history.append({"epoch": epoch_idx, "seconds": time.perf_counter() - started, "losses": means})
        if self.on_epoch is not None:
            self.on_epoch(epoch_idx + 1, self.epochs)
        return losses

    @contextmanager
    def _epoch(self, epoch: int) -> Iterator[None]:
        if not isinstance(self.model, FeatureRecommender):
            yield
            return
        self.model.begin_epoch(epoch)
        try:
            yield
        finally:
            self.model.end_epoch()

    def _set_learning_rate(self, epoch: int) -> None:
        decay, period = self.config["lr_decay"] or 1.0, self.config["lr_decay_epochs"] or 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * decay ** (epoch / period)

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        score, result = super()._valid_epoch(valid_data, show_progress)
        self.history[-1]["valid"] = {name: float(value) for name, value in result.items()}
        return score, result

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], Any] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train; the best validated parameters are in the model afterwards. See RecBole's `Trainer.fit`."""

        def keep_best(epoch: int, score: float) -> None:
            if self.cur_step == 0:  # RecBole's count of evaluations since the best one
                self._best = self._parameters()
            if callback_fn:
                callback_fn(epoch, score)

        result = super().fit(train_data, valid_data, verbose, saved, show_progress, keep_best)
        if self._best is not None:
            self.model.load_state_dict(self._best[0])
            self.model.load_other_parameter(
                self._best[1]
            )  # LightGCN's cached embeddings are of an epoch, too
        self.model.eval()
        return result

    def _parameters(self) -> tuple[dict[str, torch.Tensor], Any]:
        """Return a copy of the model's state dict, and what RecBole saves beside it."""
        state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return state, copy.deepcopy(self.model.other_parameter())

    def record(self) -> dict[str, Any]:
        """Return what training did, for ``training.json``: every epoch, the best validation result, and the seconds."""
        return {
            "epochs": self.history,
            "valid": {name: float(value) for name, value in (self.best_valid_result or {}).items()},
            "seconds": sum(epoch["seconds"] for epoch in self.history),
        }

    # ---- checkpoints ----

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        folder = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        save(self.model, folder)
        tensors, settings = _flatten(self.optimizer.state_dict())
        write_tensors(folder / "optimizer.safetensors", tensors)
        best = float(self.best_valid_score)
        state = {"epoch": epoch, "cur_step": self.cur_step, "best_valid_score": best, "optimizer": settings}
        write_json(folder / "progress.json", state)
        if verbose:
            self.logger.info(f"Saving current: {folder}")

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Go on from a checkpoint folder: parameters, optimizer state and counters."""
        folder = Path(resume_file)
        self.saved_model_file = str(folder)
        load(self.model, folder)
        self._best = self._parameters()  # RecBole saves the best epoch, which may stay it
        state = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        tensors = load_file(folder / "optimizer.safetensors", device=str(self.device))
        self.optimizer.load_state_dict(_unflatten(tensors, state["optimizer"]))

    # ---- evaluation ----

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | Path | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Evaluate like RecBole's trainer, from our checkpoints and in steps of many users.

        `load_best_model` reads the checkpoint when there is one; without one the model already holds the best epoch.
        """
        folder = Path(model_file or self.saved_model_file)
        if model_file or (load_best_model and folder.is_dir()):
            load(self.model, folder)
        if isinstance(eval_data, FullSortEvalDataLoader):
            eval_data = in_wide_steps(eval_data)
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        """As RecBole's, in a matrix of the items that the batch asks for: one of a million items takes longer than the epoch.

        What is ranked, and in which order items stand, is the same; metrics that ask for items' ids get RecBole's matrix.
        """
        interaction, rows, positive_users, positive_items = batched_data
        items, columns = torch.unique(interaction[self.config["ITEM_ID_FIELD"]], return_inverse=True)
        asked = self.eval_collector.register
        by_id = any(asked.need(kind) for kind in ("rec.items", "rec.meanrank", "rec.score"))
        if (
            self.config["eval_type"] != EvaluatorType.RANKING
            or by_id
            or len(items) < max(self.config["topk"])
        ):
            return super()._neg_sample_batch_eval(batched_data)
        small = len(interaction) <= self.test_batch_size
        found = (
            self.model.predict(interaction.to(self.device))
            if small
            else self._spilt_predict(interaction, len(interaction))
        )
        scores = torch.full((int(positive_users[-1]) + 1, len(items)), -torch.inf, device=self.device)
        scores[rows, columns] = found
        return interaction, scores, positive_users, torch.searchsorted(items, positive_items)


def in_wide_steps(loader: Any) -> Any:
    """Return the loader with as many users a step as `SCORES_PER_STEP` allows, at least its own number.

    RecBole takes ``max(eval_batch_size // n_items, 1)`` users: one at a time as soon as a catalogue has 4,097 items.
    """
    users = max(SCORES_PER_STEP // loader._dataset.item_num, loader.step)
    wide = copy.copy(loader)
    object.__setattr__(wide, "_DataLoader__initialized", False)
    torch.utils.data.DataLoader.__init__(
        wide,
        dataset=range(loader.sample_size),  # type: ignore[arg-type]
        batch_size=users,
        collate_fn=wide.collate_fn,
        num_workers=loader.num_workers,
    )
    return wide


def _flatten(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Split an optimizer's state dict into tensors named "<parameter>.<what>" and its JSON-able settings."""
    tensors = {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            tensors[f"{parameter}.{name}"] = torch.as_tensor(value)
    return tensors, state["param_groups"]


def _unflatten(tensors: dict[str, torch.Tensor], settings: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        parameter, name = key.split(".")
        state.setdefault(int(parameter), {})[name] = value
    return {"state": state, "param_groups": settings}
