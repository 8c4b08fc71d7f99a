"""The process in which a practice platform lives.

    python -m runbook_lib.practice.host STATE_DIR [--temporary] [--detached]

Its systems run in its event loop, in threads and as guarded children (`systems.Systems`). It
announces itself with one JSON line on standard output and ends when its standard input does,
which is how the death of the process that started it reaches it. A detached host ends so only
until that process has told it to stay.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import gc
import inspect
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from runbook_lib.practice.control import Control
from runbook_lib.practice.platform import LOCK, STAY
from runbook_lib.practice.system import System, all_verbs
from runbook_lib.practice.systems import Systems
from runbook_lib.practice.troubles import Troubles

LOG = logging.getLogger("practice")


class Host:
    """A platform's life: started whole, steered by its control API, cleaned up after."""

    def __init__(self, state: Path, *, temporary: bool) -> None:
        self.state = state
        self.temporary = temporary
        self.stopping = asyncio.Event()
        self.broken: list[str] = []  # ids of the scenarios, for `status`
        self.troubles = Troubles()
        logging.getLogger().addHandler(self.troubles)
        self._systems = Systems(state, temporary=temporary)
        self._token = secrets.token_urlsafe(32)
        self._control = Control(self, self._token)

    async def start(self) -> None:
        """Start all systems and write the state files. Raises what went wrong."""
        began = time.monotonic()
        await self._systems.start()
        await self._control.start()
        self._write_state()
        give_back_memory()
        LOG.info("ready after %.1f s", time.monotonic() - began)

    def system(self, name: str) -> System:
        """One system. Raises ValueError for a name that does not exist."""
        if name not in self._systems.all:
            known = ", ".join(self._systems.all)
            raise ValueError(f"there is no system {name!r}; there are {known}")
        return self._systems.all[name]

    def status(self) -> dict[str, Any]:
        """Which systems take requests, and which scenarios have been broken since the heal.

        And what has failed inside of the platform itself since its start: no heal mends that.
        """
        running = {name: system.running for name, system in self._systems.all.items()}
        return {"systems": running, "broken": self.broken, "troubles": list(self.troubles.kept)}

    def verbs(self) -> dict[str, dict[str, list[str]]]:
        """System to verb to the names of its arguments."""
        return {
            name: {
                verb: list(inspect.signature(f).parameters) for verb, f in all_verbs(one).items()
            }
            for name, one in self._systems.all.items()
        }

    async def heal(self) -> None:
        await self._systems.heal()
        self.broken.clear()
        give_back_memory()

    def _write_state(self) -> None:
        """kubeconfig and runbook.toml (no secret in it), then platform.json."""
        description = self._systems.describe()
        description |= {
            "pid": os.getpid(),
            "control": {"url": self._control.url, "token": self._token},
        }
        description["secrets"] = [*description["secrets"], self._token]
        part = self.state / "platform.json.part"
        part.touch(mode=0o600)
        part.write_text(json.dumps(description, indent=1))
        part.rename(self.state / "platform.json")

    async def stop(self) -> None:
        await self._systems.stop()

    def clean_up(self) -> None:
        """End the guarded children and delete what is nobody's any more."""
        self._systems.clean_up()
        if self.temporary:
            shutil.rmtree(self.state, ignore_errors=True)
        # Last: its absence tells others that the platform is down.
        (self.state / "platform.json").unlink(missing_ok=True)


def give_back_memory() -> None:
    """What loading and seeding have left behind goes back to the kernel, where libc can do that."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def watch_parent(host: Host, *, detached: bool) -> None:
    """Stop when standard input ends: the parent closed it or died, and did not say `stay`."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        said = os.read(0, 1024)
        if detached and said == STAY.encode():
            loop.remove_reader(0)
        elif not said:
            loop.remove_reader(0)
            host.stopping.set()

    loop.add_reader(0, readable)


def told_to_end(host: Host) -> None:
    LOG.info("SIGTERM: somebody ends the platform")
    host.stopping.set()


async def run(host: Host, *, detached: bool) -> int:
    """Start, announce, and serve until told to stop; the exit code."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told_to_end, host)
    watch_parent(host, detached=detached)
    stopping = asyncio.create_task(host.stopping.wait())
    starting = asyncio.create_task(host.start())
    await asyncio.wait({stopping, starting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        return 1
    if failure := starting.exception():
        tell_failure(failure)
        return 1
    announce({"ready": True})
    await stopping
    await host.stop()
    return 0


def tell_failure(failure: BaseException) -> None:
    """Why it did not start: in the log, and to who started it."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]  # systems start side by side: the first that failed
    LOG.error("the practice platform did not start", exc_info=failure)
    announce({"error": f"{type(failure).__name__}: {failure}" if str(failure) else repr(failure)})


def announce(what: dict[str, Any]) -> None:
    """One line for who started us; nobody may be left to read it."""
    try:
        print(json.dumps(what), flush=True)
    except BrokenPipeError:
        LOG.info("nobody reads: %s", what)


async def serve(state: Path, *, temporary: bool, detached: bool) -> None:
    try:
        host = Host(state, temporary=temporary)
    except Exception as failure:  # noqa: BLE001 - the seam: whatever it is, who started us is told
        tell_failure(failure)
        os._exit(1)
    code = 1
    try:
        code = await run(host, detached=detached)
    finally:
        host.clean_up()
        # At once: threads that are still starting something must not hold the process; the
        # guards see it go.
        os._exit(code)


def hold(state: Path) -> IO[str] | None:
    """Lock the folder for this process' life; None where another host holds it."""
    lock = (state / LOCK).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--temporary", action="store_true", help="delete STATE_DIR at the end")
    parser.add_argument("--detached", action="store_true", help="outlive the starting process")
    args = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    for noisy in ("httpx", "botocore", "werkzeug"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every session that ends with the server under a running statement.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # The terminal's Ctrl-C is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    held = hold(args.state)
    if held is None:
        announce({"error": f"a practice platform already runs in {args.state}"})
        sys.exit(1)
    with held:
        asyncio.run(serve(args.state, temporary=args.temporary, detached=args.detached))


if __name__ == "__main__":
    main()
