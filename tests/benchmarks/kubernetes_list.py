"""How long the practice API takes for 5,000 pods; prints figures, judges nothing.

python tests/benchmarks/kubernetes_list.py
"""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from runbook_lib.practice.kubernetes_api import KubernetesApi

PODS, TIMES = 5000, 7
TOKEN = "benchmark"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def pod(number: int) -> dict[str, Any]:
    container = {"name": "app", "image": "registry/app:1", "env": [{"name": "A", "value": "1"}]}
    status = {"name": "app", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number:04}", "labels": {"app": f"a-{number % 50}"}},
        "spec": {"containers": [container], "nodeName": f"node-{number % 100}"},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


async def measure(what: str, act: Callable[[], Awaitable[int]]) -> None:
    spans, size = [], 0
    for _ in range(TIMES):
        began = time.perf_counter()
        size = await act()
        spans.append(time.perf_counter() - began)
    middle, longest = statistics.median(spans), max(spans)
    print(f"{what:<28} {middle:6.3f} s (longest {longest:.3f} s) {size / 1e6:6.1f} MB")


async def main() -> None:
    with tempfile.TemporaryDirectory() as state:
        api = KubernetesApi(Path(state), TOKEN)
        began = time.perf_counter()
        api.load(pod(number) for number in range(PODS))
        print(f"{PODS} pods loaded in {time.perf_counter() - began:.2f} s")
        await api.start()
        trust = ssl.create_default_context(cafile=str(api.ca_file))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        path = f"{api.url}/api/v1/pods"
        async with aiohttp.ClientSession(headers=headers) as session:

            async def get(query: str = "", **more: str) -> bytes:
                async with session.get(path + query, ssl=trust, headers=more) as answer:
                    answer.raise_for_status()
                    return await answer.read()

            async def whole() -> int:
                return len(await get())

            async def paged() -> int:
                size, token = 0, ""
                while True:
                    body = await get(f"?limit=500&continue={token}" if token else "?limit=500")
                    size += len(body)
                    token = json.loads(body)["metadata"].get("continue", "")
                    if not token:
                        return size

            async def selected() -> int:
                return len(
                    await get("?labelSelector=app%3Da-1&fieldSelector=spec.nodeName%3Dnode-1")
                )

            async def table() -> int:
                return len(await get(Accept=TABLE))

            await measure("raw list", whole)
            await measure("raw list in pages of 500", paged)
            await measure("label and field selector", selected)
            await measure("table, as kubectl asks", table)
        await api.stop()


if __name__ == "__main__":
    asyncio.run(main())
