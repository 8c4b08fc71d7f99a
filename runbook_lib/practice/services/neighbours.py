"""How one application reaches another by its name in the cluster."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from runbook_lib.practice.kubernetes.store import Store
from runbook_lib.practice.services.routing import GatewayError, named, targets

# From the name of a Service to the URL at which the system behind it really listens now.
Where = Callable[[str], str | None]


class UnreachableError(Exception):
    """There is no way to a name; the text is what the resolver or the kernel says."""


def reach(store: Store, url: str, namespace: str, where: Where) -> tuple[str, str]:
    """The URL on loopback that stands for a URL in the cluster, and the Host to name there.

    The user, the password and the place are those of `where`, the rest those of the given URL.
    Raises UnreachableError where the name does not resolve or nothing takes the connection.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    backend = named(store, host, namespace)
    if backend is None:
        raise UnreachableError("[Errno -2] Name or service not known")
    try:
        targets(store, backend)
    except GatewayError:
        raise UnreachableError("[Errno 111] Connection refused") from None
    base = where(backend.service)
    if base is None:
        raise UnreachableError("[Errno 111] Connection refused")
    real = urlsplit(base)
    return urlunsplit((real.scheme, real.netloc, parts.path, parts.query, "")), host
