"""The command line where nothing heavy runs: completion, exit statuses, and progress on a terminal and elsewhere."""

from __future__ import annotations

import errno
import logging
import os
import sys

import pytest

from recgen import cli
from recgen.core import progress


def completed(monkeypatch, capsys, words):
    for name, value in (
        ("_RECGEN_COMPLETE", "bash_complete"),
        ("COMP_WORDS", words),
        ("COMP_CWORD", str(len(words.split()) - 1)),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["recgen"])
    with pytest.raises(SystemExit):
        cli.main()
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("recgen run --config sim", "plain,simulated"),
        ("recgen run --until gene", "plain,generator.fit"),
        ("recgen plan --gpu a1", "plain,a100"),
        ("recgen run --set recgen.ranker.j", "plain,recgen.ranker.judge="),
    ],
)
def test_shells_complete(monkeypatch, capsys, words, expected):
    assert expected in completed(monkeypatch, capsys, words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(monkeypatch, capsys, shell):
    monkeypatch.setattr(sys, "argv", ["recgen", "completion", shell])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None) and "_RECGEN_COMPLETE" in capsys.readouterr().out


def plugin_on_a_full_disk() -> Exception:
    error = RuntimeError("a generator raised in save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (cli.UserError("key", found="a", expected="b"), 2, "key: found a"),
        (ValueError("odd"), 1, "The log has the details"),
        (MemoryError(), 2, "no memory left"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left on device"),
        (OSError(errno.EACCES, "Permission denied"), 1, "The log has the details"),
        (plugin_on_a_full_disk(), 2, "no space left on device"),
    ],
)
def test_exit_statuses(monkeypatch, capsys, raised, code, says):
    def fail():
        raise raised

    monkeypatch.setattr("recgen.doctor.examine", fail)
    monkeypatch.setattr(sys, "argv", ["recgen", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code and says in capsys.readouterr().err


def test_a_missing_option_is_a_mistake_of_the_users(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recgen", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "--config" in capsys.readouterr().err


# ---- progress ----


@pytest.fixture
def clock(monkeypatch):
    now = {"time": 100.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["time"])
    progress.end()
    return now


def test_lines_now_and_then(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, "recgen"):
        for step in range(1, 101):
            clock["time"] += 1
            progress.show("MICRO: epochs", step, 100, "Recall@20 0.1")
    said = [record.message.strip() for record in caplog.records]
    assert said[0] == "MICRO: epochs: 1/100, Recall@20 0.1"
    assert said[1] == "MICRO: epochs: 11/100, Recall@20 0.1, about 89 s left"
    assert said[-1] == "MICRO: epochs: 100/100, Recall@20 0.1" and len(said) < 15


def test_one_bar_on_a_terminal(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for what in ("one", "two"):
        for step in (0, 5):
            clock["time"] += 3
            progress.show(what, step, 10)
    progress.end()
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3 and lines[2] == "", "a bar each, on a line of its own"
    assert "one [###############...............] 5/10, about 3 s left" in lines[0]


def test_trainings_say_their_epochs(write_config, tmp_path, caplog):
    from recgen.pipeline import session

    settings = {"MICRO": {"epochs": 30, "eval_step": 1, "stopping_step": 0, "learning_rate": 1.0}}
    session.run(
        str(write_config(tmp_path, ranker={"settings": settings})), str(tmp_path / "run"), until="ranker"
    )
    said = "\n".join(record.message for record in caplog.records if record.name == "recgen")
    assert "MICRO: epochs: 1/30" in said and "stopped early after" in said and "best" in said
    assert os.path.exists(tmp_path / "run/ranker/judge/training.json")
