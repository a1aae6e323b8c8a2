"""What README prints works: its Python, its commands and its YAML, on the small run instead of the demo."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import recgen
from recgen.cli import recgen as command_line
from recgen.config.loader import load_config

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    return re.findall(
        rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("recgen ")]


def test_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_the_python_snippet_runs(run, tmp_path, monkeypatch, capsys):
    (snippet,) = blocks("python")
    user, item, name = run.context.data.user_ids[0], run.context.data.item_ids[0], "ip_adapter"
    small = snippet.replace('"taste"', f'"{name}"').replace('"196", "242"', f'"{user}", "{item}"')
    assert f'draw("{user}", "{item}", "{name}")' in small, (
        "the demo has several generators, so that one has to be named"
    )
    monkeypatch.setattr(recgen, "run", lambda config: recgen.open(run.folder))
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {})
    assert (tmp_path / "image.png").is_file() and "'value'" in capsys.readouterr().out


@pytest.mark.parametrize("line", commands())
def test_every_command_has_the_options_it_is_given(line):
    words = shlex.split(line)[1:]
    named = [word for word in words if not word.startswith("-")][:3]
    command, found = command_line, []
    while hasattr(command, "commands"):
        name = named.pop(0)
        command = command.commands[name]
        found.append(name)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_commands_on_a_finished_run(run, tmp_path):
    """As printed: the demo has several generators, of which `draw` has to name one, and so has the small run."""
    assert len(run.generators) > 1
    for line in (each for each in commands() if "runs/demo" in each):
        small = line.replace("runs/demo", str(run.folder)).replace("image.png", str(tmp_path / "image.png"))
        small = small.replace("196", run.context.data.user_ids[0]).replace(
            "242", run.context.data.item_ids[0]
        )
        words = shlex.split(small.replace("--generator taste", "--generator ip_adapter"))[1:]
        assert CliRunner().invoke(command_line, words, catch_exceptions=False).exit_code == 0


def test_the_yaml_is_a_configuration(tmp_path):
    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block)
    assert (
        load_config(str(tmp_path / "mine.yaml")).settings.requests
        == yaml.safe_load(block)["recgen"]["requests"]
    )


def test_every_link_leads_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
