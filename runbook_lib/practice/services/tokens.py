"""JSON Web Tokens signed with HS256 (RFC 7519), refused in the words of PyJWT."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any


class TokenError(Exception):
    """A token that is refused; the text says why."""


@dataclass(frozen=True)
class Policy:
    """What a token must say, and by what clock it is judged."""

    audience: str
    issuer: str
    leeway: float
    now: float


def encode(claims: dict[str, Any], secret: str) -> str:
    """A signed token."""
    head = _part({"alg": "HS256", "typ": "JWT"})
    signed = f"{head}.{_part(claims)}"
    return f"{signed}.{_signature(signed, secret)}"


def decode(token: str, secret: str, policy: Policy) -> dict[str, Any]:
    """The claims of a token. Raises TokenError."""
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenError("Not enough segments")
    header, claims = _read(parts[0], "header"), _read(parts[1], "payload")
    if header.get("alg") != "HS256":
        raise TokenError("The specified alg value is not allowed")
    if not hmac.compare_digest(_signature(f"{parts[0]}.{parts[1]}", secret), parts[2]):
        raise TokenError("Signature verification failed")
    for claim in ("iat", "nbf"):
        if claim in claims and claims[claim] > policy.now + policy.leeway:
            raise TokenError(f"The token is not yet valid ({claim})")
    if "exp" not in claims:
        raise TokenError('Token is missing the "exp" claim')
    if claims["exp"] <= policy.now - policy.leeway:
        raise TokenError("Signature has expired")
    if claims.get("aud") != policy.audience:
        raise TokenError("Audience doesn't match")
    if claims.get("iss") != policy.issuer:
        raise TokenError("Invalid issuer")
    return claims


def _part(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _read(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise TokenError(f"Invalid {what} string: {error}") from None
    if not isinstance(found, dict):
        raise TokenError(f"Invalid {what} string: must be a json object")
    return found


def _signature(signed: str, secret: str) -> str:
    return _text(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
