"""The data systems end with the process that hosts them, whatever they are doing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from runbook_lib.practice.wait import until

# The guard's grace for a server that does not end is 4 s.
GONE_SECONDS = 15.0
HOST = """
import asyncio, json, sys
from pathlib import Path
from typing import Any
from runbook_lib.practice.system import perform
from runbook_lib.practice.{module} import {name}

async def main():
    system = {name}(Path(sys.argv[1]), remove_when_orphaned=True)
    await system.start()
    for verb, arguments in json.loads(sys.argv[2]):
        await perform(system, verb, arguments)
    print(json.dumps(system.server.port), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _slow(*parameters: object) -> Any:
    return pytest.param(*parameters, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("module", "name", "verbs"),
    [
        ("redis.system", "OnlineStore", [["evict", {}], ["blocked_clients", {"count": 3}]]),
        _slow("redis.system", "OnlineStore", [["freeze", {}]]),
        _slow("redis.system", "OnlineStore", [["save_running", {}]]),
        _slow("postgres.system", "Database", [["long_query", {}], ["lock_chain", {}]]),
        _slow("postgres.system", "Database", [["slow_queries_hold_slots", {}]]),
    ],
)
def test_nothing_is_left_of_a_killed_host(module: str, name: str, verbs: list[object]) -> None:
    # Below /tmp, which the server's own user can enter.
    state = Path(tempfile.mkdtemp(prefix="runbook-death-", dir="/tmp"))
    program = HOST.format(module=module, name=name)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(state), json.dumps(verbs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            port = json.loads(process.stdout.readline())
            family = psutil.Process(process.pid).children(recursive=True)
            folders = [state, *(path.resolve() for path in state.iterdir() if path.is_dir())]
            assert len(family) >= 2 and _listens(port)
        finally:
            process.send_signal(signal.SIGKILL)
        process.wait()

        def left() -> list[object]:
            ports = [port] if _listens(port) else []
            return [*filter(_runs, family), *ports, *filter(os.path.exists, folders)]

        with contextlib.suppress(TimeoutError):
            until(lambda: not left(), GONE_SECONDS, "nothing left")
        assert not left()


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
