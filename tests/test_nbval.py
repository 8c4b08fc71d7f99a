"""nbval over the notebooks themselves, in real kernels, against the practice platform."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebook import NOTEBOOKS, ROOT

from runbook_lib.practice.platform import Platform


@pytest.mark.slow
def test_every_notebook_runs_in_a_kernel(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=90",
            "-p", "no:cacheprovider", "-q", "-W", "default", f"--rootdir={ROOT}",
            *map(str, NOTEBOOKS.values()),
        ],
        env=os.environ | platform.env | {"RUNBOOK_RUN_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=400,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
