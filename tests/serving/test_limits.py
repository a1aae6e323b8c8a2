"""API keys, and where the limit on requests is counted."""

from __future__ import annotations

import inspect

import pytest

from recgen.core.errors import UserError
from recgen.serving.limits import Keys

pytest.importorskip("fastapi", reason="recgen[serve] is not installed")
from recgen.serving.app import Options, application


@pytest.mark.parametrize("text", [b"", b"# none\n\n", "sch\u00f6n\n".encode(), b"\xff\n"])
def test_a_file_without_keys_lets_nobody_in(tmp_path, text):
    (tmp_path / "keys").write_bytes(text)
    with pytest.raises(UserError, match="expected a file with an API key a line"):
        Keys.read(str(tmp_path / "keys"))
    (tmp_path / "keys").write_bytes(b"# ours\n\n a \nb\n")
    assert [
        key for key in (None, "", "a", " a ", "b", "# ours") if Keys.read(str(tmp_path / "keys")).accepts(key)
    ] == ["a", "b"]


def test_limits_are_counted_in_one_thread(tmp_path):
    """FastAPI calls a dependency that is no coroutine from any of 40 threads, and a bucket is read, then written."""
    app = application(Options(tmp_path, Keys(["a"]), rate=1))
    for path in ("/v1/creative", "/v1/click"):
        (route,) = (each for each in app.routes if getattr(each, "path", "") == path)
        (admitted,) = route.dependant.dependencies
        assert inspect.iscoroutinefunction(admitted.call)
