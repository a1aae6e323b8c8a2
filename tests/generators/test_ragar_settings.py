"""Settings of RAGAR: the paper's form, what training inherits from drawing, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from generators.ragar.settings import Settings
from recgen.diffusion.sampling import Sampling


def test_the_papers_form_is_one_setting_and_keys_beside_it_win() -> None:
    paper = Settings(preset="paper", r=5)
    assert (paper.retrieve_from, paper.weights, paper.action, paper.noise, paper.pairs) == (
        "history", "similarity", "tokens", "own", "single",
    )  # fmt: skip
    assert (paper.r, paper.k, paper.clamp, paper.distance, paper.learning_rate) == (5, 5, True, "sum", 1e-5)
    assert Settings().net_of_content and not paper.net_of_content
    assert Settings(**paper.model_dump()) == paper, "what a run keeps of it is read back the same"


def test_training_samples_as_drawing_does_unless_told_otherwise() -> None:
    decode = {"steps": 50, "guidance_scale": 2.0, "sampler": "ddim", "ip_adapter_scale": 0.4}
    inherited = Settings(decode=decode).train_decode
    assert inherited == Sampling(**{**decode, "steps": 5})
    own = Settings(decode=decode, train_decode={"steps": 3, "guidance_scale": 4.0}).train_decode
    assert own == Sampling(**{**decode, "steps": 3, "guidance_scale": 4.0})
    assert Settings(decode={"steps": 2}).train_decode.steps == 2


def test_a_key_that_is_gone_is_read_with_a_note(caplog) -> None:
    assert Settings(calibrator_rate=0.04) == Settings()
    assert "learning_rate" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"retrieve_from": "catalogue", "weights": "similarity"},
        {"k": 0},
        {"retrieve_from": "elsewhere"},
        {"tau": 0},
    ],
)
def test_impossible_retrieval_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)
