"""KServe's storage-initializer: it copies a model out of S3, or ends in its own words.

Source: kserve_storage 0.15, `Storage._download_s3`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.services.cloud import Cloud, client_in
from runbook_lib.practice.services.rules import Raised

INITIALIZER = "storage-initializer"
_S3 = "s3://"
_PACKAGES = "/prod_venv/lib/python3.11/site-packages/"
_FRAMES = (
    ("/storage-initializer/scripts/initializer-entrypoint", 17, "<module>"),
    (f"{_PACKAGES}kserve_storage/kserve_storage.py", 111, "download"),
    (f"{_PACKAGES}kserve_storage/kserve_storage.py", 264, "_download_s3"),
)


async def fetch(cloud: Cloud, store: Store, kubelet: Kubelet, pod: Object) -> None:
    """Look for the model of a pod whose initializer runs; it ends where there is none.

    Models that are not in S3 are taken to be there.
    """
    uri = source(pod)
    if not uri.startswith(_S3):
        return
    try:
        await asyncio.to_thread(_look, cloud, store, kubelet, pod, uri)
    except Raised as error:
        lines = (f"INFO:root:Copying contents of {uri} to local", *error.traceback)
        kubelet.end(pod, INITIALIZER, 1, lines, "Error")


def source(pod: Object) -> str:
    """The storageUri, which is the initializer's first argument; '' without one."""
    for container in pod["spec"].get("initContainers") or []:
        if container["name"] == INITIALIZER:
            return str((container.get("args") or [""])[0])
    return ""


def _look(cloud: Cloud, store: Store, kubelet: Kubelet, pod: Object, uri: str) -> None:
    """Raises Raised where the initializer would."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, path = uri.removeprefix(_S3).partition("/")
    try:
        s3: Any = client_in(cloud, store, kubelet, pod, INITIALIZER, "s3")
        found = s3.list_objects_v2(Bucket=bucket, Prefix=path, MaxKeys=100)
    except (BotoCoreError, ClientError) as error:
        name = f"botocore.exceptions.{type(error).__name__}"
        raise Raised(name, str(error), _FRAMES) from None
    keys = [one["Key"] for one in found.get("Contents", [])]
    if not any(key == path or key.startswith(f"{path.rstrip('/')}/") for key in keys):
        text = f"Failed to fetch model. No model found in {path}."
        raise Raised("RuntimeError", text, _FRAMES)
