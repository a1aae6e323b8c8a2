"""What every ranking model must do: a test class inherits one of the contracts and names its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from safetensors.torch import load, save, save_file

from recgen.core.compat import register_recbole_model

USERS, ITEMS, PER_USER, DIM = 24, 30, 10, 12
_NEAR: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def write_dataset(folder: Path) -> dict[str, Any]:
    """Write a data set and return the RecBole keys that read it.

    Users like the images of one of six kinds. Every item has
    raw embeddings, float32 ``[30, 12]``, as `image` and as `text`.
    """
    rng = np.random.default_rng(0)
    (folder / "tiny").mkdir(parents=True)
    kinds = rng.integers(0, 6, ITEMS)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(USERS):
        weights = np.where(kinds == user % 6, 8.0, 1.0)
        for turn, item in enumerate(rng.choice(ITEMS, PER_USER, replace=False, p=weights / weights.sum())):
            liked = kinds[item] == user % 6
            lines.append(f"u{user}\ti{item}\t{rng.integers(3, 6) if liked else rng.integers(1, 5)}\t{turn}")
    (folder / "tiny/tiny.inter").write_text("\n".join(lines) + "\n")
    centres = rng.normal(size=(6, DIM))
    for kind in ("image", "text"):
        rows = (centres[kinds] + 0.7 * rng.normal(size=(ITEMS, DIM))).astype(np.float32)
        save_file({"features": torch.from_numpy(rows)}, folder / f"{kind}.safetensors")
        (folder / f"{kind}.ids.txt").write_text("".join(f"i{item}\n" for item in range(ITEMS)))
    return {
        "data_path": str(folder),
        "item_features": {kind: str(folder / f"{kind}.safetensors") for kind in ("image", "text")},
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "show_progress": False,
        "use_gpu": False,
        "epochs": 3,
        "eval_step": 1,
    }


class Trained:
    """A model after a short training: RecBole's `config` and `dataset`, the `model`, raw images and what was measured.

    Attributes
    ----------
    images
        Raw image embeddings by RecBole's internal ids, float32 ``[n_items, D]``; row 0 is padding.
    valid
        The best validation result.
    """

    def __init__(self, kind: Any, settings: dict[str, Any], folder: Path) -> None:
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import get_trainer, init_seed

        register_recbole_model(kind)
        self.config = Config(
            model=kind.__name__, dataset="tiny", config_dict={**write_dataset(folder), **settings}
        )
        init_seed(self.config["seed"], True)
        self.dataset = create_dataset(self.config)
        self.train, valid, _ = data_preparation(self.config, self.dataset)
        self.model = self.fresh()
        trainer = get_trainer(self.config["MODEL_TYPE"], self.config["model"])(self.config, self.model)
        _, self.valid = trainer.fit(self.train, valid, saved=False, verbose=False)
        self.model.eval()
        tokens = self.dataset.field2id_token[self.dataset.iid_field][1:]
        raw = load((folder / "image.safetensors").read_bytes())["features"]
        order = [int(str(token).removeprefix("i")) for token in tokens]
        self.images = torch.cat([torch.zeros(1, DIM), raw[order]])

    def fresh(self) -> Any:
        """Return the model, not trained."""
        return self.config.model_class(self.config, self.train.dataset)

    def pairs(self, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
        """Return users and items by RecBole's ids, two LongTensors ``[count]``."""
        generator = torch.Generator().manual_seed(0)
        users = torch.randint(1, self.dataset.user_num, (count,), generator=generator)
        return users, torch.randint(1, self.dataset.item_num, (count,), generator=generator)


class DownstreamModelContract:
    """Tests of one ranking model that can be retrained downstream; subclasses name the `model` and its `settings`.

    Attributes
    ----------
    model
        The RecBole model class.
    settings
        RecBole keys that make it small.
    """

    model: ClassVar[Any]
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
        """The model, trained for three epochs."""
        folder = tmp_path_factory.mktemp("ranking")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "sys.argv", ["pytest"]
            )  # RecBole reads settings from the command line of any program
            patch.chdir(folder)
            yield Trained(self.model, self.settings, folder)

    def test_training_ends_with_finite_parameters_and_a_result(self, trained: Trained) -> None:
        assert trained.valid and all(np.isfinite(value) for value in trained.valid.values())
        assert all(torch.isfinite(value).all() for value in trained.model.state_dict().values())

    def test_predict_and_full_sort_predict_agree(self, trained: Trained) -> None:
        users, items = trained.pairs()
        ids = {trained.dataset.uid_field: users, trained.dataset.iid_field: items}
        with torch.no_grad():
            single = trained.model.predict(Interaction(ids))
            every = trained.model.full_sort_predict(Interaction({trained.dataset.uid_field: users}))
        torch.testing.assert_close(
            single, every.view(len(users), -1).gather(1, items[:, None])[:, 0], **_NEAR
        )

    def test_saved_and_loaded_predicts_the_same(self, trained: Trained) -> None:
        users = Interaction({trained.dataset.uid_field: trained.pairs()[0]})
        state = {name: value.contiguous() for name, value in trained.model.state_dict().items()}
        again = trained.fresh()
        again.load_state_dict(load(save(state)))
        again.eval()
        with torch.no_grad():
            found, expected = (model.full_sort_predict(users) for model in (again, trained.model))
        torch.testing.assert_close(found, expected, **_NEAR)


class RankingModelContract(DownstreamModelContract):
    """Tests of one ranking model that can be reward and judge too: another image of an item changes what it says.

    Its class has the method ``what_if(mode)``, which returns a `ranking_models.what_if.base.WhatIf`; attributes are those of
    `DownstreamModelContract`.

    Examples
    --------
    A test module of another package::

        from recgen.testing import RankingModelContract


        class TestMine(RankingModelContract):
            model = Mine
            settings = {"embedding_size": 8}
    """

    @pytest.fixture
    def what_if(self, trained: Trained) -> Any:
        """The scorer of replaced images."""
        return trained.model.what_if("exact")

    def test_scores_of_what_is_there_order_items_as_the_model_does(
        self, trained: Trained, what_if: Any
    ) -> None:
        users = trained.pairs()[0]
        with torch.no_grad():
            every = trained.model.full_sort_predict(Interaction({trained.dataset.uid_field: users}))
        own = what_if.score_all(users)[:, 1:]
        for mine, models in zip(own, every.view(len(users), -1)[:, 1:], strict=True):
            assert np.corrcoef(mine.argsort().argsort(), models.argsort().argsort())[0, 1] > 0.999

    def test_an_items_own_image_changes_nothing(self, trained: Trained, what_if: Any) -> None:
        users, items = trained.pairs()
        own = trained.images[items]
        torch.testing.assert_close(
            what_if.score(users, items, own), what_if.score_original(users, items), **_NEAR
        )
        assert (what_if.rank(users, items, own) - what_if.rank_original(users, items)).abs().max() <= 1

    def test_another_image_changes_the_score(self, trained: Trained, what_if: Any) -> None:
        users, items = trained.pairs()
        others = trained.images[items].roll(1, 0) + 1
        changed = what_if.score(users, items, others)
        assert torch.isfinite(changed).all() and not torch.allclose(
            changed, what_if.score_original(users, items)
        )

    def test_requests_do_not_influence_each_other(self, trained: Trained, what_if: Any) -> None:
        users, items = trained.pairs(12)
        images = trained.images[items].roll(1, 0)
        together = what_if.score(users, items, images)
        alone = [what_if.score(users[n : n + 1], items[n : n + 1], images[n : n + 1]) for n in range(12)]
        torch.testing.assert_close(together, torch.cat(alone), **_NEAR)

    def test_a_rank_counts_the_unseen_items_that_score_higher(self, trained: Trained, what_if: Any) -> None:
        users, items = trained.pairs()
        scores = what_if.score_all(users)
        seen = trained.train.dataset.inter_matrix(form="csr")
        ranks = what_if.rank_original(users, items)
        for user, item, row, rank in zip(users.tolist(), items.tolist(), scores, ranks.tolist(), strict=True):
            others = set(range(1, trained.dataset.item_num)) - set(seen[user].indices) - {item}
            assert rank == sum(bool(row[other] > row[item]) for other in others)

    def test_saved_and_loaded_scores_the_same(self, trained: Trained, what_if: Any) -> None:
        users, items = trained.pairs()
        state = {name: value.contiguous() for name, value in trained.model.state_dict().items()}
        again = trained.fresh()
        again.load_state_dict(load(save(state)))
        again.eval()
        images = trained.images[items].roll(1, 0)
        found = again.what_if("exact").score(users, items, images)
        torch.testing.assert_close(found, what_if.score(users, items, images), **_NEAR)

    def test_asking_what_if_changes_no_parameter(self, trained: Trained, what_if: Any) -> None:
        before = {name: value.clone() for name, value in trained.model.state_dict().items()}
        users, items = trained.pairs()
        what_if.rank(users, items, trained.images[items].roll(1, 0))
        after = trained.model.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
