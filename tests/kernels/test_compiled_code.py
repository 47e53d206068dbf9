"""What the Triton kernels compile to, emulated on a CPU and compared with plain torch: assembly, layouts, barriers and
copies ahead, none of which Triton's interpreter runs. Races and accesses out of bounds fail a case, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
pytestmark = pytest.mark.skipif(Version(version("triton")) < Version("3.5"), reason="older ones do not compile them")


@pytest.mark.parametrize(
    ("part", "cases"), [("decode", 8), ("wide", 9), ("compress", 12), pytest.param("more", 11, marks=pytest.mark.slow)]
)
def test_compiled_kernels_agree_with_plain_torch(part: str, cases: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("compiled_code.py")
    done = subprocess.run(
        [sys.executable, str(script), part],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    errors = re.findall(r"^(.*) error=(\S+) bound=(\S+) ", done.stdout, re.M)
    assert len(errors) >= cases, done.stdout
    wrong = [line for line in errors if not float(line[1]) <= float(line[2])]
    assert not wrong, wrong
