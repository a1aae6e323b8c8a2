"""Values of RecBole's most used keys, so that a wrong one is named before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recgen.core.errors import UserError, nearest

METRICS = (
    "Recall MRR NDCG Hit Precision MAP GAUC ItemCoverage AveragePopularity GiniIndex ShannonEntropy TailPercentage AUC MAE RMSE "
    "LogLoss"
).split()
"""RecBole's metrics."""
_FILES = ("inter", "item", "user", "kg", "link", "net")


def _whole(least: int) -> Callable[[Any], str]:
    return lambda value: "" if _is_int(value) and value >= least else f"a whole number of at least {least}"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(least: float, open_end: bool = False) -> Callable[[Any], str]:
    def wrong(value: Any) -> str:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if fits and (value > least if open_end else value >= least):
            return ""
        return f"a number {'above' if open_end else 'of at least'} {least:g}"

    return wrong


def _of(kind: type, words: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) else words


def _cutoffs(value: Any) -> str:
    each = value if isinstance(value, list) else [value]
    return "" if each and all(_is_int(one) and one >= 1 for one in each) else "whole numbers of at least 1"


def _metrics(value: Any) -> str:
    each = value if isinstance(value, list) else [value]
    wrong = [one for one in each if not isinstance(one, str) or one.lower() not in map(str.lower, METRICS)]
    return f"metrics of RecBole's. {nearest(str(wrong[0]), METRICS)}".strip() if wrong or not each else ""


def _metric_at(value: Any) -> str:
    name, _, cutoff = str(value).partition("@")
    if not isinstance(value, str) or (cutoff and not cutoff.isdigit()):
        return "a metric, as in Recall@20"
    return _metrics(name)


def _columns(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "a mapping of file endings to lists of columns"
    for kind, names in value.items():
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not listed and names not in (None, "*"):
            return f"a list of columns at {kind}"
    return ""


_BOOLEAN, _TEXT, _MAPPING = (
    _of(bool, "true or false"),
    _of(str, "text"),
    _of(dict, "a mapping of keys to values"),
)
_WRONG: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("epochs", "train_batch_size", "eval_batch_size", "embedding_size", "knn_k"), _whole(1)),
    **dict.fromkeys(("stopping_step", "eval_step", "n_layers", "hidden_size"), _whole(0)),
    "learning_rate": _number(0, open_end=True),
    **dict.fromkeys(("weight_decay", "reg_weight", "contrastive_weight"), _number(0)),
    **dict.fromkeys(("use_gpu", "reproducibility", "standardise", "log_tensorboard"), _BOOLEAN),
    **dict.fromkeys(
        ("data_path", "field_separator", "USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD"),
        _TEXT,
    ),
    **dict.fromkeys(("eval_args", "val_interval", "threshold"), _MAPPING),
    "topk": _cutoffs,
    "metrics": _metrics,
    "valid_metric": _metric_at,
    "load_col": _columns,
}
"""For a key, a function that returns what was expected, or the empty string where a value is right."""


def check(values: Mapping[str, Any], prefix: str) -> None:
    """Raise `UserError` for the first value that RecBole cannot train with; null is RecBole's "not given".

    Parameters
    ----------
    values
        RecBole's keys.
    prefix
        The YAML and the block, for messages.
    """
    for key, value in values.items():
        expected = _WRONG[key](value) if key in _WRONG and value is not None else ""
        if expected:
            raise UserError(f"{prefix}{key}", found=repr(value)[:200], expected=expected)
    _check_files(values, prefix)
    _check_valid_metric(values, prefix)


def _check_files(values: Mapping[str, Any], prefix: str) -> None:
    loaded = values.get("load_col")
    known = [*_FILES, *(values.get("additional_feat_suffix") or [])]
    for kind in loaded if isinstance(loaded, Mapping) else ():
        if kind not in known:
            raise UserError(
                f"{prefix}load_col.{kind}",
                found="an unknown kind of file",
                expected=", ".join(known),
                todo=nearest(kind, known),
            )


def _check_valid_metric(values: Mapping[str, Any], prefix: str) -> None:
    topk, (_, _, cutoff) = values.get("topk"), str(values.get("valid_metric") or "").partition("@")
    known = topk if isinstance(topk, list) else [topk]
    if topk is not None and cutoff and int(cutoff) not in known:
        raise UserError(
            f"{prefix}valid_metric",
            found=values["valid_metric"],
            expected=f"a metric at a cutoff of topk, {topk}",
        )
