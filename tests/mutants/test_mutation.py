"""The runner itself: which mutants are made, and whether a test that can fail kills one that it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="`make mutants` installs it")

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from mutation import mutants  # noqa: E402

SOURCE = '''"""A module."""

from __future__ import annotations


def share(part: int | None, *, whole: float = 2) -> float:
    """Return a share."""
    if part is None:
        raise ValueError(f"nothing of {whole + 1}")
    return part / whole


def never(a: int) -> int:
    return a - 1
'''


def test_mutants_are_those_of_what_is_executed():
    changes = [(mutant.line, mutant.change) for mutant in mutants(SOURCE)]
    assert (8, "if part is None: -> if not part is None:") in changes
    assert (10, "return part / whole -> return part * whole") in changes
    assert (14, "return a - 1 -> return a + 1") in changes and (14, "return a - 1 -> return a - 2") in changes
    assert sorted(line for line, _ in changes) == [6, 6, 8, 8, 10, 14, 14, 14]
    assert all("int |" not in change or "= 3" in change or "= 1" in change for _, change in changes)
    functions = {mutant.line: mutant.functions for mutant in mutants(SOURCE)}
    assert functions == {6: (), 8: (6,), 10: (6,), 14: (13,)}


SCRIPT = """
import sys
from pathlib import Path
from fork import Changed, Process
from mutation import mutants

folder = Path(sys.argv[1])
module = folder / "shares.py"
source = module.read_text()
sys.path.insert(0, str(folder))
tests = [str(folder / "test_shares.py")]
whole = Process(tests, watch=module).wait()
print("whole", whole.passed, sorted(whole.seen["calls"]), "shares" in whole.seen["loaded"])
for mutant in {mutant.line: mutant for mutant in mutants(source)}.values():
    ran = Process(tests, Changed(module.resolve(), mutant.code)).wait()
    print(mutant.line, ran.how, mutant.change)
endless = Process(tests, Changed(module.resolve(), source + "\\nwhile True: pass\\n"), cpu_s=0)
print("endless", endless.wait().how, module.read_text() == source)
"""


def test_a_test_that_can_fail_kills_and_no_file_is_touched(tmp_path):
    (tmp_path / "shares.py").write_text(SOURCE)
    (tmp_path / "test_shares.py").write_text(
        "import pytest\nfrom shares import never, share\n"
        "def test_share():\n    assert share(3) == 1.5\n    with pytest.raises(ValueError): share(None)\n"
    )
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr
    first, *rest, last = ran.stdout.splitlines()
    assert first == "whole True ['1', '6'] True" and last == "endless time True"
    hows = {tuple(line.split(" ", 2)[:2]) for line in rest}
    assert hows == {("6", "failed"), ("8", "failed"), ("10", "failed"), ("14", "passed")}
