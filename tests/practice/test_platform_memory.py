"""A platform keeps within its memory, also once it was healed many times."""

from __future__ import annotations

import contextlib
import shutil

import psutil
import pytest

from runbook_lib.practice import scenario
from runbook_lib.practice.metrics.real_systems import CHOICE
from runbook_lib.practice.platform import Platform

pytestmark = pytest.mark.slow

MEGABYTE = 1e6
LIMIT = 450
HEALS = 10
GROWTH = 15  # in the last five of them, by when what is remembered has reached its bounds
is_absent = not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager"))


def megabytes(*processes: psutil.Process) -> float:
    """What these take: what is shared counts for each in part (PSS)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MEGABYTE


@pytest.mark.parametrize(
    "prometheus",
    [
        "builtin",
        pytest.param(
            "real", marks=pytest.mark.skipif(is_absent, reason="Prometheus is not installed")
        ),
    ],
)
def test_ten_heals_keep_it_within_its_memory(
    prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHOICE, prometheus)
    with Platform.start() as platform:
        scenario.wait_until_healthy(platform)
        host = psutil.Process(platform.pid)
        taken = []
        for _ in range(HEALS + 1):
            taken.append(megabytes(host))
            assert megabytes(host, *host.children(recursive=True)) <= LIMIT
            scenario.heal(platform)
        assert taken[-1] - taken[HEALS // 2] <= GROWTH, taken
