"""redis-cli as it answers in the Redis pods, on the platform's real server.

Without a terminal it prints raw answers: a line a string or number, nested arrays flat.
Source: redis-cli's own help, and its output to a pipe.
"""

from __future__ import annotations

from typing import Any

from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.redis.system import OnlineStore

REFUSED = "Could not connect to Redis at 127.0.0.1:6379: Connection refused\n"
SECONDS = 5.0


class RedisCli:
    """Runs `redis-cli [-n DATABASE] COMMAND [ARGUMENT…]`; other options are refused."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    async def __call__(self, pod: Any, container: str, argv: list[str], stdin: bytes) -> Executed:
        """What it writes and how it ends, in any pod that has the tool."""
        words, database = argv[1:], 0
        while words and words[0].startswith("-"):
            option = words.pop(0)
            if option == "-n" and words and words[0].isdecimal():
                database = int(words.pop(0))
            elif option not in ("--raw", "--no-auth-warning"):
                said = f"redis-cli: the practice platform does not serve option {option}\n"
                return Executed(1, err=said.encode())
        if not words:
            words = stdin.decode().split()
        if not words:
            return Executed(0)
        return await self._execute(words, database)

    async def _execute(self, words: list[str], database: int) -> Executed:
        # Slow to import, and only a command in a pod needs it.
        from redis.asyncio import Connection
        from redis.exceptions import ConnectionError as Gone
        from redis.exceptions import ResponseError, TimeoutError

        server = self._store.server
        connection = Connection(
            host=server.host,
            port=server.port,
            db=database,
            password=server.password,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
        )
        try:
            await connection.connect()
            await connection.send_command(*words)
            answer = await connection.read_response()
        except ResponseError as refused:
            # The client takes the most common code away; others (NOAUTH, WRONGTYPE) it keeps.
            code = "ERR " if type(refused) is ResponseError else ""
            return Executed(0, f"{code}{refused}\n".encode())
        except (Gone, TimeoutError):
            return Executed(1, err=REFUSED.encode())
        finally:
            await connection.disconnect()
        return Executed(0, b"".join(line + b"\n" for line in _lines(answer)))


def _lines(answer: Any) -> list[bytes]:
    if isinstance(answer, dict):
        answer = [one for pair in answer.items() for one in pair]
    if isinstance(answer, list | tuple | set):
        return [line for one in answer for line in _lines(one)]
    if answer is None:
        return [b""]
    return [answer if isinstance(answer, bytes) else str(answer).encode()]
