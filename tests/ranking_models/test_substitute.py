"""The slow exact what-if against the models' own, and every scorer against what RecBole ranks by."""

from __future__ import annotations

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import nn

from ranking_models.what_if import scorer
from ranking_models.what_if.substitute import SubstituteWhatIf
from recgen.core.errors import UserError

LABELLED = {
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "labeled"},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
}
MODELS = {
    "MICRO": {"embedding_size": 8, "knn_k": 4},
    "VBPR": {"embedding_size": 8, "visual_size": 4},
    "Verifier": {"embedding_size": 8, "threshold": {"rating": 4}, **LABELLED},
}


@pytest.fixture(params=sorted(MODELS))
def trained(request, build):
    """A model after one epoch, its loader's dataset and three requests with images of their own."""
    built = build(request.param, **MODELS[request.param], epochs=1)
    built.trainer().fit(built.train, built.valid, saved=False, verbose=False)
    torch.manual_seed(0)
    users, items = torch.tensor([1, 2, 5]), torch.tensor([3, 9, 3])
    return built.model.eval(), built.train._dataset, users, items, torch.randn(3, 12)


def predicted(model, users) -> torch.Tensor:
    with torch.no_grad():
        return model.full_sort_predict(Interaction({"user_id": users})).reshape(len(users), -1)


def on_scale(model, scores: torch.Tensor) -> torch.Tensor:
    """Scores as `full_sort_predict` has them: the verifier's are probabilities there, and logits in what-if."""
    return scores.sigmoid() if type(model).__name__ == "Verifier" else scores


def test_slow_scorer_equals_the_models_own_and_leaves_no_trace(trained):
    model, dataset, users, items, images = trained
    before, features = predicted(model, users), model.features("image").clone()
    slow, fast = SubstituteWhatIf(model), scorer(model)
    torch.testing.assert_close(
        slow.score(users, items, images), on_scale(model, fast.score(users, items, images)), atol=1e-5, rtol=0
    )
    assert torch.equal(slow.rank(users, items, images), fast.rank(users, items, images))
    assert torch.equal(slow.rank_original(users, items), fast.rank_original(users, items))
    assert (slow.score(users, items, images) != slow.score_original(users, items)).any()
    assert torch.equal(model.features("image"), features) and torch.equal(predicted(model, users), before)


def test_no_requests_have_no_scores(trained):
    model, _, users, items, images = trained
    for asked in (SubstituteWhatIf(model), scorer(model)):
        assert asked.score(users[:0], items[:0], images[:0]).shape == (0,)
        assert asked.rank(users[:0], items[:0], images[:0]).shape == (0,)
        assert asked.score_all(users[:0]).shape == (0, model.n_items)


def test_an_error_while_scoring_takes_the_image_out_again(trained, monkeypatch):
    model, dataset, users, items, images = trained
    features = model.features("image").clone()
    monkeypatch.setattr(model, "full_sort_predict", lambda interaction: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SubstituteWhatIf(model).score(users, items, images)
    assert torch.equal(model.features("image"), features)


def test_score_all_is_what_recbole_ranks_by(trained):
    model, dataset, users, items, images = trained
    scores = scorer(model).score_all(users)
    assert scores.shape == (3, model.n_items) and (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(
        on_scale(model, scores[:, 1:]), predicted(model, users)[:, 1:], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        scores.gather(1, items[:, None])[:, 0], scorer(model).score_original(users, items)
    )
    assert scorer(model).score_all(users[:0]).shape == (0, model.n_items)


class Plain(GeneralRecommender):
    """A plugin's model: a user's vector times the item's image, with no base class of ours and no what_if."""

    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset) -> None:
        super().__init__(config, dataset)
        torch.manual_seed(1)
        self.table, self.user = torch.randn(self.n_items, 6), nn.Embedding(self.n_users, 6)

    def features(self, modality: str) -> torch.Tensor:
        return self.table

    def full_sort_predict(self, interaction) -> torch.Tensor:
        return (self.user(interaction["user_id"]) @ self.table.T).reshape(-1)


def test_a_plugins_model_with_features_needs_nothing_else(build):
    built = build("BPR", item_features=None)
    model = Plain(built.config, built.train._dataset)
    users, items, images = torch.tensor([4, 7]), torch.tensor([2, 2]), torch.randn(2, 6)
    what_if = scorer(model, dataset=built.train._dataset)
    expected = (model.user(users) * images).sum(1)
    torch.testing.assert_close(what_if.score(users, items, images), expected.detach())
    for row, rank in enumerate(what_if.rank(users, items, images).tolist()):
        train = built.train._dataset.inter_feat
        seen = set(train["item_id"][train["user_id"] == users[row]].tolist())
        scores = predicted(model, users[row : row + 1])[0]
        others = [i for i in range(1, model.n_items) if i != 2 and i not in seen]
        assert rank == int((scores[others] > expected[row]).sum())


def test_a_model_that_reads_no_images_is_refused(build):
    built = build("BPR", item_features=None)
    with pytest.raises(UserError, match="BPR.*reads no images"):
        scorer(built.model, dataset=built.train._dataset)
