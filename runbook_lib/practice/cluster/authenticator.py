"""The webhook that takes tokens of `aws eks get-token`: presigned URLs of STS's GetCallerIdentity.

Source: aws-iam-authenticator, "API Authorization from Outside a Cluster".
"""

from __future__ import annotations

import base64
import datetime
import time
from urllib.parse import parse_qs, urlsplit

_PREFIX = "k8s-aws-v1."
_LONGEST_SECONDS = 15 * 60  # how long a presigned URL is taken after its signing


def signing_key(token: str) -> str | None:
    """The access key that presigned a GetCallerIdentity; None for another token, or one too old.

    As everywhere in the practice account the key is looked up, the signature is not verified.
    """
    encoded = token.removeprefix(_PREFIX)
    if encoded == token:
        return None
    try:
        url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        query = parse_qs(urlsplit(url).query)
        signed = datetime.datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%S%z")
        named = query["X-Amz-SignedHeaders"][0].split(";")
        key = query["X-Amz-Credential"][0].partition("/")[0]
    except (KeyError, ValueError):
        return None
    # The header says for which cluster it was signed.
    asks = query.get("Action") == ["GetCallerIdentity"] and "x-k8s-aws-id" in named
    fresh = abs(time.time() - signed.timestamp()) < _LONGEST_SECONDS
    return key if asks and fresh else None
