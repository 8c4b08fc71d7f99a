"""moto without what a platform of this size never asks: half of its memory is lists of machines."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"
# Enough to size a node group with; other machines are unknown here (InvalidInstanceType).
FAMILIES = ("t3", "m5", "m6i", "m7i", "c5", "c6i", "r5", "r6i", "g4dn", "g5", "p3")


def load_moto() -> None:
    """Import what every request needs, and EC2 with the machines of FAMILIES in one region."""
    from moto.utilities import utils

    whole = utils.load_resource

    def lean(resource: str) -> Any:
        if resource.endswith("instance_types.json"):
            text = gzip.decompress(utils.load_resource_as_bytes(resource + ".gz")).decode()
            return _machines(text)
        if "instance_type_offerings" not in resource:
            return whole(resource)
        if f"/{REGION}." not in resource:
            return []
        return [one for one in whole(resource) if one["InstanceType"].split(".")[0] in FAMILIES]

    utils.load_resource = lean
    try:
        import moto.ec2.models
    finally:
        utils.load_resource = whole
    import moto.moto_server.werkzeug_app  # noqa: F401


def application() -> Any:
    """moto's server as WSGI. It looks through its folders at each request; ours remembers."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    class Remembering(DomainDispatcherApplication):
        def __init__(self) -> None:
            super().__init__(create_backend_app)
            self._backends: dict[str | None, Any] = {}

        def get_backend_for_host(self, host: str | None) -> Any:
            if host not in self._backends:
                self._backends[host] = super().get_backend_for_host(host)
            return self._backends[host]

    return Remembering()


def _machines(text: str) -> dict[str, Any]:
    """Only the wanted ones are decoded: what the others leave behind in memory stays."""
    decoder = json.JSONDecoder()
    wanted = re.finditer(rf'"((?:{"|".join(FAMILIES)})\.[\w-]+)":\s*(?=\{{)', text)
    return {one[1]: decoder.raw_decode(text, one.end())[0] for one in wanted}
