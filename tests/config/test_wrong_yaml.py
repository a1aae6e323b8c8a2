"""Whatever is wrong with a YAML is one message that names the file, the key and what to do; nothing else is ever raised."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from command_line import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recgen import cli
from recgen.config import recbole_keys
from recgen.config.loader import Config, load_config
from recgen.core.errors import UserError

DATA = "dataset: tiny\n"
OURS = DATA + "recgen:\n"
DEEP = "{a: " * 60 + "1" + "}" * 60
MISTAKES = [
    # (what stands in the file, what the message has to say)
    (b"dataset: caf\xe9\n", "line 1: found the byte 0xe9, which is not UTF-8"),
    (b"dataset: tiny\nnote: \xff\n", "line 2: found the byte 0xff"),
    (b"\xff\xfed\x00a\x00", "0xff, which is not UTF-8"),
    (b"dataset: a\x00b\n", "line 1: found the control character U+0000"),
    (b"dataset: tiny\nx: \x1b[31m\n", "line 2: found the control character U+001B"),
    ("", "found NoneType; expected a mapping"),
    ("- a\n- b\n", "found list; expected a mapping"),
    ("just words", "found str; expected a mapping"),
    ("{dataset: tiny", "expected safe YAML"),
    ("dataset: [tiny\nx: 1", "expected safe YAML"),
    ("dataset: tiny\n\tepochs: 3\n", "line 2"),
    ("dataset: *nowhere\n", "undefined alias"),
    ("dataset: !!python/object/apply:os.system [ls]\n", "expected safe YAML"),
    ("dataset: tiny\nepochs: &a [*a]\n", "epochs.0: found an alias of what it is part of"),
    ("dataset: tiny\nrecgen: &r {tune: *r}\n", "recgen.tune: found an alias of what it is part of"),
    (f"dataset: tiny\nload_col: {DEEP}\n", "nested more than 50 deep"),
    ("dataset: " + "[" * 2000 + "]" * 2000, "nested"),
    ("dataset: tiny\nepochs: 2024-01-31\n", "line 2: found the date 2024-01-31"),
    (OURS + "  seed: 2024-01-31 10:00:00\n", "line 3: found the date 2024-01-31 10:00:00"),
    ("dataset: 2024-13-45\n", "the date 2024-13-45"),
    ("dataset: tiny\nepochs: .nan\n", "epochs: found nan; expected a finite number"),
    (OURS + "  like_threshold: .inf\n", "recgen.like_threshold: found inf"),
    ("dataset: tiny\nepochs: 3\nepochs: 4\n", "line 3: found the key 'epochs' twice"),
    (OURS + "  seed: 1\n  seed: 2\n", "line 4: found the key 'seed' twice"),
    ("dataset: tiny\n1: 2\n", "the key 1, a int; expected text"),
    ("dataset: tiny\nyes: 2\n", "the key True, a bool; expected text; put it in quotes"),
    ("dataset: tiny\ntopk: !!set {10}\n", "topk: found {10}, a set"),
    ("dataset: tiny\ntopk: !!binary aGk=\n", "topk: found b'hi', a bytes"),
    ("dataset: tiny\nepochs: !!int many\n", "a value that is none"),
    ("dataset: tiny\nepochs: " + "9" * 5000 + "\n", "a value that is none"),
    ("dataset: tiny\nepochs: !!float ''\n", "a value that is none"),
    (OURS + "  backbone: " + "a" * 70_000 + "\n", "recgen.backbone: found 'aaaa", "70000 characters"),
    ("epochs: 3\n", "dataset: found None; expected a RecBole data set's name"),
    ("dataset: 3\n", "dataset: found 3"),
    ("dataset: tiny\nepchs: 3\n", "epchs: found an unknown key; expected a key of RecBole", "'epochs'"),
    ("dataset: tiny\nknn_kk: 3\n", "knn_kk: found an unknown key", "'knn_k'"),
    ("dataset: tiny\nLearning_rate: 3\n", "'learning_rate'"),
    ("dataset: tiny\ntotally_own: 3\n", "totally_own", "recgen.extra_keys"),
    (OURS + "  downstream: {settings: {epoch: 3}}\n", "recgen.downstream.settings.epoch", "'epochs'"),
    (
        OURS + "  ranker: {settings: {MICRO: {knn_kk: 3}}}\n",
        "recgen.ranker.settings.MICRO.knn_kk",
        "'knn_k'",
    ),
    ("dataset: tiny\nepochs: many\n", "epochs: found 'many'", "a whole number of at least 1"),
    ("dataset: tiny\nlearning_rate: 0\n", "learning_rate: found 0", "a number above 0"),
    ("dataset: tiny\nmetrics: [Recal]\n", "metrics: found ['Recal']", "'Recall'"),
    (
        "dataset: tiny\ntopk: [5]\nvalid_metric: Recall@20\n",
        "valid_metric: found Recall@20",
        "a cutoff of topk, [5]",
    ),
    (
        "dataset: tiny\nload_col: {inters: [user_id]}\n",
        "load_col.inters: found an unknown kind of file",
        "'inter'",
    ),
    ("dataset: tiny\nload_col: {inter: user_id}\n", "load_col: found", "a list of columns at inter"),
    ("dataset: tiny\nrecgen: 3\n", "recgen: found int"),
    ("dataset: tiny\nrecgen: [a]\n", "recgen: found list"),
    (OURS + "  sed: 3\n", "recgen.sed: found an unknown key", "'seed'"),
    (OURS + "  seed: many\n", "recgen.seed: found 'many'"),
    (OURS + "  threads: 0\n", "recgen.threads: found 0", "greater than or equal to 1"),
    (OURS + "  eval_split: train\n", "recgen.eval_split: found 'train'", "'test' or 'validation'"),
    (OURS + "  generators: []\n", "recgen.generators: found []"),
    (OURS + "  generators: ragar\n", "recgen.generators: found 'ragar'", "valid list"),
    (OURS + "  generators: [ragra]\n", "recgen.generators: found 'ragra'", "'ragar'"),
    (OURS + "  generators: [ragar, ragar]\n", "recgen.generators", "each name once"),
    (OURS + "  generators: [ip_adapter, ip_adapter_mean]\n", "recgen.generators", "each name once"),
    (OURS + "  generators: [folder]\n", "recgen.folder.path", "required"),
    (OURS + "  ragar: {r: -1}\n  generators: [ragar]\n", "recgen.ragar.r: found -1"),
    (OURS + "  ragar: {decode: {stepz: 1}}\n  generators: [ragar]\n", "recgen.ragar.decode.stepz", "'steps'"),
    (OURS + "  ragar: 5\n  generators: [ragar]\n", "recgen.ragar"),
    (OURS + "  mine: {generator: foldr}\n", "recgen.mine.generator: found 'foldr'", "'folder'"),
    (OURS + "  'a/b': {generator: folder}\n", "recgen.a/b: found 'a/b'"),
    (OURS + "  ranker: {judge: MICRA}\n", "recgen.ranker.judge: found 'MICRA'", "'MICRO'"),
    (
        OURS + "  ranker: {same_judge: true, reward: VBPR}\n",
        "recgen.ranker.same_judge",
        "one model for both",
    ),
    (OURS + "  chunk: 3\n  shard_size: 4\n", "recgen.chunk: found both chunk and shard_size"),
    (OURS + "  tune: {objectives: {recall@10: -1}}\n", "recgen.tune", "weights above 0"),
    (OURS + "  download: {get: a}\n", "recgen.download.into"),
    (
        OURS + "  requests: {protocol: blind, items: 2, per_item: 1}\n",
        "recgen.requests.per_item: found 1; expected greater than or equal to 2",
    ),
    (
        OURS + "  requests: {protocol: blined}\n",
        "recgen.requests.protocol: found 'blined'",
        "'blind' or 'paper'",
    ),
    (OURS + "  requests: many\n", "recgen.requests: found 'many'"),
    (OURS + "  downstream: {rerank: {users: 0}, seeds: 2}\n", "recgen.downstream.rerank.users: found 0"),
]


@pytest.mark.parametrize(("text", *("says", "more")), [(m[0], m[1], m[2:]) for m in MISTAKES])
def test_a_mistake_is_named_with_its_file_and_place(tmp_path, text, says, more):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        load_config(str(path))
    message = str(caught.value)
    assert message.startswith(str(path)), "the file"
    for part in (says, *more):
        assert part in message


def test_aliases_of_aliases_are_not_spread_out(tmp_path):
    lines = ["dataset: tiny", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "wrong.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="more than 100000 values"):
        load_config(str(tmp_path / "wrong.yaml"))


def test_keys_of_other_packages_can_be_allowed(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("dataset: tiny\nmine: 3\nrecgen: {extra_keys: [mine]}\n")
    assert load_config(str(path)).recbole["mine"] == 3


def test_recboles_keys_are_known():
    keys = (
        "epochs learning_rate train_batch_size eval_args load_col topk metrics use_gpu gpu_id data_path seed"
    )
    ours = "knn_k standardise user_reg image_bias_reg_weight item_features"
    assert set(f"{keys} {ours}".split()) <= recbole_keys.known()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/run", "/proc/run", "file", "file/run"])
def test_a_run_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(sys, "argv", ["recgen", "run", "--config", "demo", "--out", place])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and place in told and "Traceback" not in told


def test_a_run_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    from recgen.pipeline.workspace import Workspace

    space = Workspace(tmp_path / "run")
    (tmp_path / "run/.lock").symlink_to("/proc/none")  # root may write where others may not, but not there
    with pytest.raises(UserError, match=r"run folder .*--out"), space.lock():
        pass


def outcome(path: Path) -> Config | UserError:
    """Return what comes of a file: a configuration, or the mistake; anything else is raised."""
    try:
        return load_config(str(path))
    except UserError as error:
        assert str(path) in str(error)
        return error


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    """
    seed threads encoder backbone ip_adapter captioner llm keywords tags ranker generators requests shard_size chunk target obtain
    download like_threshold downstream simulator tune extra_keys ragar folder dreambooth mine images text_fields precision
    """.split()
)


@FUZZ
@given(blob=st.binary(max_size=60))
def test_any_bytes_are_a_configuration_or_a_mistake(tmp_path, blob):
    path = tmp_path / "any.yaml"
    path.write_bytes(DATA.encode() + blob)
    outcome(path)


@FUZZ
@given(
    ours=st.dictionaries(KEYS, VALUES, max_size=4),
    recbole=st.dictionaries(st.text(max_size=6), VALUES, max_size=2),
)
def test_any_values_are_a_configuration_or_a_mistake(tmp_path, ours, recbole):
    path = tmp_path / "any.yaml"
    path.write_text(
        yaml.safe_dump({"dataset": "tiny", **recbole, "recgen": ours}, allow_unicode=True), encoding="utf-8"
    )
    found = outcome(path)
    if isinstance(found, Config):
        path.write_text(yaml.safe_dump(found.resolved(), sort_keys=False), encoding="utf-8")
        again = load_config(str(path))
        assert again.settings == found.settings and again.generators == found.generators


@FUZZ
@given(key=KEYS, text=st.text(max_size=20))
def test_any_override_is_a_configuration_or_a_mistake(tmp_path, key, text):
    path = tmp_path / "plain.yaml"
    path.write_text(DATA)
    try:
        load_config(str(path), [f"recgen.{key}={text}"])
    except UserError as error:
        assert key in str(error) or "--set" in str(error) or str(path) in str(error)


# ---- two hundred wrong configurations: a right one with one thing changed, and what has to be said of it ----


def split_path(path: str, values: dict) -> list[str]:
    """Return the keys of a dotted path, some of which have dots themselves."""
    keys, holder, rest = [], values, path
    while rest:
        key = next(
            key for key in sorted(holder, key=len, reverse=True) if rest == key or rest.startswith(f"{key}.")
        )
        keys.append(key)
        holder, rest = holder[key], rest[len(key) + 1 :]
    return keys


def yaml_paths(values: dict, above: str = "") -> list[str]:
    """Return the dotted paths of all keys, those that hold others too."""
    found = []
    for key, value in values.items():
        found.append(f"{above}{key}")
        found += yaml_paths(value, f"{above}{key}.") if isinstance(value, dict) else []
    return found


RIGHT = {
    "dataset": "tiny",
    "data_path": "data/",
    "epochs": 3,
    "eval_step": 1,
    "stopping_step": 5,
    "learning_rate": 0.001,
    "train_batch_size": 64,
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "load_col": {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "title"]},
    "recgen": {
        "preset": "quick",
        "seed": 1,
        "requests": {"protocol": "blind", "items": 20, "per_item": 3},
        "ranker": {"reward": "MICRO", "judge": "VBPR", "settings": {"MICRO": {"epochs": 2, "knn_k": 5}}},
        "generators": ["ragar", "ip_adapter_mean"],
        "controls": ["original", "placebo"],
        "shard_size": 8,
        "like_threshold": 4,
        "max_bad_images": 0.1,
        "downstream": {"seeds": 2, "mix_weight": 0.5, "settings": {"epochs": 2}},
        "gallery": 4,
        "ragar": {
            "k": 3,
            "r": 2,
            "sigma": 0.3,
            "decode": {"steps": 6, "sampler": "ddim", "guidance_scale": 3},
        },
        "tune": {"space": {"ragar.k": {"low": 1, "high": 5}}, "startup_trials": 3},
    },
}
FREE = {
    "recgen.tune.space.ragar.k",
    "recgen.preset",
}  # a name of the user's own; and `preset`, near no other key
PLACES = [path for path in yaml_paths(RIGHT) if path not in FREE]
SPELLINGS = st.tuples(st.sampled_from(["drop", "double", "swap", "capital"]), st.integers(0, 10))


def misspelt(word: str, how: str, where: int) -> str:
    """Return a word with one mistake in it."""
    where %= max(len(word) - 1, 1)
    if how == "drop":
        return word[:where] + word[where + 1 :]
    if how == "double":
        return word[: where + 1] + word[where:]
    if how == "swap":
        return word[:where] + word[where : where + 2][::-1] + word[where + 2 :]
    return word[:where] + word[where].upper() + word[where + 1 :]


def changed(values: dict, path: str, key: str | None = None, value: object = None) -> dict:
    """Return a copy of a configuration with the key at a path renamed, or with another value."""
    copy = json.loads(json.dumps(values))
    *above, last = split_path(path, copy)
    holder = copy
    for each in above:
        holder = holder[each]
    if key is None:
        holder[last] = value
    else:
        holder[key] = holder.pop(last)
    return copy


def verdict(tmp_path: Path, monkeypatch, capsys, values: dict) -> tuple[int, str]:
    """Return the exit status of `recgen run` and what it said."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    status = command(monkeypatch, "plan", "--config", str(path), "--out", str(tmp_path / "run"))
    said = capsys.readouterr()
    return status, said.err + said.out


def test_the_configuration_before_the_mistakes_is_right(tmp_path, monkeypatch, capsys):
    assert verdict(tmp_path, monkeypatch, capsys, RIGHT)[0] == 0
    assert len(PLACES) >= 40


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(place=st.sampled_from(PLACES), spelling=SPELLINGS)
def test_a_misspelt_key_is_named_with_the_right_one(tmp_path, monkeypatch, capsys, place, spelling):
    right = split_path(place, RIGHT)[-1]
    wrong = misspelt(right, *spelling)
    status, said = verdict(tmp_path, monkeypatch, capsys, changed(RIGHT, place, key=wrong))
    if wrong == right or (wrong in LEGITIMATE and place.startswith("recgen.") is False):
        assert status == 0, said
        return
    assert status == 2 and str(tmp_path / "mine.yaml") in said, said
    assert "Traceback" not in said
    assert wrong in said or right in said, said  # `dataset` is missed by its right name
    if right != "dataset" and len(wrong) > 2:
        assert f"'{right}'" in said or f"recgen.{right}" in said or right in said, said


WRONG_VALUES = [["a", {"b": 1}], {"a": {"b": 2}}, "wrong words", -7.5]


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(WRONG_VALUES))
def test_a_value_of_the_wrong_kind_is_named_with_its_key(tmp_path, monkeypatch, capsys, place, value):
    status, said = verdict(tmp_path, monkeypatch, capsys, changed(RIGHT, place, value=value))
    if (place, repr(value)) in TAKEN:
        assert status == 0, said
        return
    assert status == 2, f"{place}: {value!r} was taken: {said[:200]}"
    assert str(tmp_path / "mine.yaml") in said and "expected" in said
    assert place.split(".")[1 if place.startswith("recgen.") else 0] in said, said


TAKEN = {
    ("dataset", "'wrong words'"),
    ("data_path", "'wrong words'"),
    ("recgen.like_threshold", "-7.5"),
    ("recgen.tune.space.ragar.k.low", "-7.5"),  # what k may be, a trial says
}
"""What is odd and right: a name or a path may be any words, and a threshold any number."""
LEGITIMATE = frozenset[str]()
