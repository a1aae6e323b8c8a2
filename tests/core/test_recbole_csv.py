"""RecBole's atomic files read by pandas' parser in C are what its parser in Python makes of them."""

from __future__ import annotations

import pandas as pd

from recgen.core.compat import recbole_csv

ROWS = [
    'i1\t"a ""quoted"", title"\t0.1\t3',
    "i2\tпривет, 東京 '\t12345678.123456789\t",
    "i3\t\t1e-320\t-0.30000000000000004",
    "NA\tnull\t\t1700000000.0001",
    "i5\t" + "long " * 40_000 + "\t9007199254740993\t5",
    "007\t#\t1.7976931348623157e308\t.5",
]


def read(path, engine_kept: bool) -> pd.DataFrame:
    types = {"id:token": str, "title:token_seq": str, "a:float": "float64", "b:float": "float64"}
    ask = {"delimiter": "\t", "usecols": list(types), "dtype": types, "encoding": "utf-8", "engine": "python"}
    if engine_kept:
        return pd.read_csv(path, **ask)
    with recbole_csv():
        return pd.read_csv(path, **ask)


def test_the_values_are_the_same(tmp_path):
    import csv

    before = csv.field_size_limit(
        2**31 - 1
    )  # the parser in Python refuses titles above 131,072 characters, ours does not
    path = tmp_path / "x.item"
    path.write_text(
        "\n".join(["id:token\ttitle:token_seq\ta:float\tb:float", *ROWS]) + "\n\n", encoding="utf-8"
    )
    try:
        expected = read(path, engine_kept=True)
    finally:
        csv.field_size_limit(before)
    pd.testing.assert_frame_equal(read(path, engine_kept=False), expected, check_exact=True)
    assert len(expected) == len(ROWS)


def test_rows_of_too_many_or_too_few_values_are_cut_and_filled_by_both(tmp_path):
    path = tmp_path / "x.item"
    path.write_text(
        "id:token\ttitle:token_seq\ta:float\tb:float\ni1\tt\t1\ni2\tt\t1\t2\t3\t4\n", encoding="utf-8"
    )
    pd.testing.assert_frame_equal(
        read(path, engine_kept=False), read(path, engine_kept=True), check_exact=True
    )


def test_outside_the_block_pandas_is_itself():
    original = pd.read_csv
    with recbole_csv():
        assert pd.read_csv is not original
    assert pd.read_csv is original
