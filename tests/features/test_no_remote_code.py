"""A model folder's own code never runs, whatever a user answers to a question that should not be asked."""

from __future__ import annotations

import io
import json

import pytest

from recgen.core.errors import UserError
from recgen.features.captioner import Captioner
from recgen.features.language import LanguageModel


@pytest.fixture
def folder(tmp_path):
    """A model whose configuration and class are Python files beside it, which leave a mark when they are imported."""
    made, mark = tmp_path / "model", tmp_path / "ran"
    made.mkdir()
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own", "AutoModel": "own.Own"}
    code |= {
        "AutoModelForImageTextToText": "own.Own",
        "AutoProcessor": "own.Own",
        "AutoTokenizer": ["own.Own", None],
    }
    (made / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": code}))
    (made / "tokenizer_config.json").write_text(json.dumps({"auto_map": code}))
    (made / "processor_config.json").write_text(json.dumps({"auto_map": code}))
    (made / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    return made


@pytest.mark.parametrize("part", ["tokenizer", "model"])
def test_a_language_model_runs_no_code_of_its_folder(folder, part, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(UserError):
        getattr(LanguageModel(str(folder)), part)
    assert not (folder.parent / "ran").exists()


def test_a_captioner_runs_no_code_of_its_folder(folder, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(UserError):
        Captioner(str(folder))
    assert not (folder.parent / "ran").exists()
