"""How one application reaches another by its name in the cluster."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from runbook_lib.practice.cluster.dialing import Network
from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.services.routing import named

# From the name of a Service to the URL at which the system behind it really listens now.
Where = Callable[[str], str | None]
_PORTS = {"http": 80, "https": 443, "redis": 6379}
_WORDS = {
    "absent": "[Errno -2] Name or service not known",
    "no answer": "[Errno -3] Temporary failure in name resolution",
    "refused": "[Errno 111] Connection refused",
}


class UnreachableError(Exception):
    """There is no way to a name; the text is what the resolver or the kernel says."""


class SilentError(UnreachableError):
    """Nobody answers: whoever connects waits for as long as it is willing to."""


def reach(network: Network, store: Store, pod: Object, url: str, where: Where) -> tuple[str, str]:
    """The URL on loopback that stands for a URL as a pod asks for it, and the Host to name there.

    The user, the password and the place are those of `where`, the rest those of the given URL.
    Raises UnreachableError where the name does not resolve (in the cluster's DNS) or nothing
    takes the connection, SilentError where NetworkPolicies drop it.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    port = parts.port or _PORTS.get(parts.scheme, 80)
    outcome = network.reaches(pod, f"{parts.hostname}:{port}")
    if outcome == "timeout":
        raise SilentError("[Errno 110] Connection timed out")
    if outcome != "connected":
        raise UnreachableError(_WORDS[outcome])
    backend = named(store, host, pod["metadata"]["namespace"])
    base = where(backend.service) if backend else None
    if base is None:
        raise UnreachableError(_WORDS["refused"])
    real = urlsplit(base)
    return urlunsplit((real.scheme, real.netloc, parts.path, parts.query, "")), host
