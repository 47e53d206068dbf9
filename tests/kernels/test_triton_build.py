"""The Triton kernels compile for sm_90 and fit its shared memory: the interpreter takes what the compiler does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs Triton, which has wheels for Linux")
SHARED_MEMORY = 227 * 1024  # of a program on sm_90


@pytest.mark.parametrize("part", ["split", "others"])
def test_they_compile_without_a_gpu(part: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("triton_build.py")
    done = subprocess.run(
        [sys.executable, str(script), part], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    taken = {name: int(size) for name, size in re.findall(r"^(.*) shared=(\d+)$", done.stdout, re.M)}
    assert len(taken) >= 6
    assert max(taken.values()) <= SHARED_MEMORY, taken
