"""The table is complete, its example is what the report reads, and every docstring's example runs."""

import doctest
import importlib
import inspect
import json

import pytest

from recgen.metrics import registry

MODULES = ("personalisation", "semantics", "distribution", "statistics", "networks", "pairwise", "registry")


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module):
    result = doctest.testmod(importlib.import_module(f"recgen.metrics.{module}"))
    assert result.failed == 0
    assert result.attempted > 0 or module in ("networks", "registry")


def test_every_row_is_filled_in():
    keys = [metric.key for metric in registry.METRICS]
    assert len(keys) == len(set(keys)) == len(registry.BY_KEY)
    for metric in registry.METRICS:
        assert metric.title and metric.unit and metric.source and metric.meaning.endswith((".", ")"))
        assert metric.direction in ("higher", "lower", "none") and metric.kind in (
            "creative",
            "set",
            "downstream",
        )


def test_the_example_is_json_that_uses_only_keys_of_the_table():
    text = inspect.getdoc(registry)
    example = json.loads(text[text.index("::") + 2 : text.index("`null` in a permutation")])
    used = {key for row in (*example["creatives"].values(), *example["downstream"].values()) for key in row}
    used |= {test["metric"] for test in example["tests"]["paired"]} | set(example["unavailable"])
    assert used <= set(registry.BY_KEY)


def test_a_metric_from_elsewhere_keeps_its_name():
    assert registry.lookup("recall@20").title == "recall@20"
    assert registry.lookup("cis").direction == "higher"
    assert {registry.lookup(key).question for key in registry.NOT_BUILT} == {"image quality"}
