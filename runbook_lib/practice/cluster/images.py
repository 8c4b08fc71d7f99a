"""Which images a node can pull, and containerd's words where it cannot."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Registries whose contents are not known here: they give whatever they are asked for.
PUBLIC = frozenset(
    {"docker.io", "registry.k8s.io", "quay.io", "ghcr.io", "gcr.io", "public.ecr.aws"}
    | {"nvcr.io", "mcr.microsoft.com", "602401143452.dkr.ecr.us-east-1.amazonaws.com"}
)
_ECR = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com")


@dataclass(frozen=True)
class Registry:
    """The account's private registry: its host, and the "name:tag"s that it holds.

    Of a cluster without an account (no host) every ECR gives what it is asked for.
    """

    host: str = ""
    images: frozenset[str] = frozenset()

    def refuses(self, image: str) -> str:
        """Why no registry gives a node of this account the image; '' where one does.

        By digest every image is given; nodes keep none.
        """
        host, name = _parts(image)
        if "@" in name or host in PUBLIC or (host == self.host and name in self.images):
            return ""
        if not self.host and _ECR.fullmatch(host):
            return ""
        failed = f'failed to resolve reference "{image}"'
        path, _, tag = name.partition(":")
        manifest = f"https://{host}/v2/{path}/manifests/{tag or 'latest'}"
        if host == self.host:
            return f"{failed}: {image}: not found"
        if _ECR.fullmatch(host):  # another account's: no policy lets this one's nodes in
            return f"{failed}: unexpected status from HEAD request to {manifest}: 403 Forbidden"
        unknown = f"dial tcp: lookup {host.partition(':')[0]}: no such host"
        return f'{failed}: failed to do request: Head "{manifest}": {unknown}'


def _parts(image: str) -> tuple[str, str]:
    """Host and name of a reference, as Docker reads it: a host has a dot or a port."""
    host, slash, name = image.partition("/")
    if slash and (host == "localhost" or "." in host or ":" in host):
        return host, name
    return "docker.io", image
