"""Training one ranking model by RecBole's trainer for it, with what the training did."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from recgen.core.compat import recbole_batches
from recgen.core.progress import end, show
from recgen.recommender.recbole import Loaders

logger = logging.getLogger("recgen")


class Trained:
    """A trained model and what its training did.

    Attributes
    ----------
    model
        The RecBole model, with the parameters of its best validated epoch.
    trainer
        RecBole's trainer, which can evaluate it.
    record
        What training.json says: every epoch, the best validation result (``valid``) and the seconds.
    """

    def __init__(self, model: Any, trainer: Any, seconds: float) -> None:
        self.model, self.trainer = model, trainer
        epochs = [{**epoch, "valid": finite(epoch.get("valid"))} for epoch in getattr(trainer, "history", [])]
        self.record = {
            "epochs": epochs,
            "valid": finite(trainer.best_valid_result),
            "seconds": round(seconds, 3),
        }


def finite(results: Mapping[str, float] | None) -> dict[str, float]:
    """Return results without those that are not numbers, such as the AUC where nobody dislikes anything."""
    return {name: float(value) for name, value in (results or {}).items() if math.isfinite(value)}


def build(config: Any, dataset: Any) -> Any:
    """Return an untrained model of a RecBole dataset, on the device that its RecBole Config names."""
    return config.model_class(config, dataset).to(config["device"])


def trainer_for(config: Any, model: Any) -> Any:
    """Return the trainer of a model.

    Where RecBole has none but its general one, ours takes its place: it keeps the best epoch without a checkpoint
    (RecBole issue 1547) and writes nothing into the working directory.
    """
    from recbole.trainer import Trainer
    from recbole.utils import get_trainer

    from ranking_models.trainer import RankingTrainer

    found = get_trainer(config["MODEL_TYPE"], config["model"])
    return (RankingTrainer if found is Trainer else found)(config, model)


def train(config: Any, data: Loaders) -> Trained:
    """Build and train one model with early stopping; it then holds the parameters of its best epoch."""
    from recbole.utils import init_seed

    init_seed(config["seed"], config["reproducibility"])
    started = time.perf_counter()
    model = build(config, data.train.dataset)
    trainer = trainer_for(config, model)
    watch = _Watch(f"{config['model']}: epochs", str(config["valid_metric"]), trainer)
    with recbole_batches(joined=getattr(model, "reads_columns", True)):
        trainer.fit(
            data.train,
            data.valid,
            verbose=False,
            saved=False,
            show_progress=config["show_progress"],
            callback_fn=watch.validated,
        )
    watch.ended()
    return Trained(model, trainer, time.perf_counter() - started)


class _Watch:
    """Shows the epochs of a training, what validation says of them, and whether it stopped early."""

    def __init__(self, what: str, metric: str, trainer: Any) -> None:
        self.what, self.metric, self.trainer = what, metric, trainer
        self.done, self.note = 0, ""
        self.counts_epochs = hasattr(trainer, "on_epoch")
        if self.counts_epochs:
            trainer.on_epoch = self.epoch

    def epoch(self, done: int, total: int) -> None:
        """Take note of an epoch."""
        self.done = done
        show(self.what, done, total, self.note)

    def validated(self, epoch: int, score: float) -> None:
        """Take note of a validation; trainers of RecBole's own say nothing in between."""
        self.note = f"{self.metric} {score:.4f}, best {self.trainer.best_valid_score:.4f}"
        if not self.counts_epochs:
            self.epoch(epoch + 1, self.trainer.epochs)

    def ended(self) -> None:
        """Say that training ended before its last epoch, if it did."""
        end()
        if 0 < self.done < self.trainer.epochs:
            logger.info(
                "  %s: stopped early after %d of %d; %s", self.what, self.done, self.trainer.epochs, self.note
            )
