"""Who asks: bearer tokens, tokens of ServiceAccounts and of `aws eks get-token`.

ServiceAccount tokens are JSON web tokens (RFC 7519) signed by the cluster (ES256), with the claims
of the TokenRequest API. Those of EKS are presigned URLs of STS's GetCallerIdentity (source:
aws-iam-authenticator, "API Authorization from Outside a Cluster").
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from runbook_lib.practice.kubernetes.store import Object, Store
from runbook_lib.practice.kubernetes.veil import DIRECTORS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ISSUER = AUDIENCE = "https://kubernetes.default.svc"
MASTERS = "system:masters"
_AUTHENTICATED = "system:authenticated"
_ACCOUNT = "system:serviceaccount:"
_HEADER = {"alg": "ES256", "typ": "JWT"}
_AWS = "k8s-aws-v1."
_AWS_SECONDS = 15 * 60  # how long a presigned URL is taken after its signing
_HALF = 32  # bytes of each of the two numbers of a signature


@dataclass(frozen=True)
class User:
    """An authenticated user, as access is granted to it."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)

    @property
    def directs(self) -> bool:
        """Whether they direct the practice, and so see what the others have to find out."""
        return DIRECTORS in self.groups

    def document(self) -> Object:
        """The UserInfo of authentication.k8s.io."""
        found: Object = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            found["uid"] = self.uid
        return {**found, "extra": self.extra} if self.extra else found


def user(name: str, groups: tuple[str, ...] = (), **more: Any) -> User:
    """A user with the groups that every one of its sort is in."""
    implied: tuple[str, ...] = ()
    if name.startswith(_ACCOUNT):
        namespace = name.removeprefix(_ACCOUNT).partition(":")[0]
        implied = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name, tuple(dict.fromkeys([*groups, *implied, _AUTHENTICATED])), **more)


class Identities:
    """The tokens that the cluster takes."""

    def __init__(self, store: Store, admin_token: str, director_token: str) -> None:
        self._store = store
        self._users: dict[str, User] = {}
        self.handed_out: list[str] = []  # tokens, so that they can be kept out of reports
        self._key: EllipticCurvePrivateKey | None = None
        # The user of an AWS access key; None for keys that the cluster's account does not know.
        self.aws_user: Callable[[str], User | None] = lambda _: None
        self.register("kubernetes-admin", [MASTERS], admin_token)
        self.register("practice-director", [MASTERS, DIRECTORS], director_token)
        self._lasting = dict(self._users)

    def register(self, name: str, groups: list[str], token: str = "") -> str:
        """Take a token, a new one where none is given, for a user of these groups."""
        token = token or secrets.token_urlsafe(32)
        self._users[_digest(token)] = user(name, tuple(groups))
        self.handed_out.append(token)
        return token

    def forget_users(self) -> None:
        """Take only the tokens of the first two again: the administrator's and the director's."""
        self._users = dict(self._lasting)

    def authenticate(self, header: str) -> User | None:
        """The user of an Authorization header; None where it proves none."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            return None
        if token.startswith(_AWS):
            key = _signing_key(token.removeprefix(_AWS))
            return self.aws_user(key) if key else None
        return self._users.get(_digest(token)) or self._account(token)

    # tokens of ServiceAccounts

    def issue(self, account: Object, audiences: list[str], lifetime: int) -> tuple[str, float]:
        """A token for a ServiceAccount, and the Unix time at which it expires."""
        meta, now = account["metadata"], int(time.time())
        claims = {
            "aud": audiences or [AUDIENCE],
            "exp": now + lifetime,
            "iat": now,
            "nbf": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": meta["namespace"],
                "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
            },
            "sub": f"{_ACCOUNT}{meta['namespace']}:{meta['name']}",
        }
        signed = f"{_json(_HEADER)}.{_json(claims)}"
        token = f"{signed}.{_encode(self._sign(signed.encode()))}"
        self.handed_out.append(token)
        return token, now + lifetime

    def _account(self, token: str) -> User | None:
        try:
            signed, _, signature = token.rpartition(".")
            claims = json.loads(_decode(signed.partition(".")[2]))
            if not self._verifies(signed.encode(), _decode(signature)):
                return None
        except ValueError:
            return None
        if AUDIENCE not in claims["aud"] or claims["exp"] < time.time():
            return None
        about = claims["kubernetes.io"]
        name, namespace = about["serviceaccount"]["name"], about["namespace"]
        account = self._store.find("serviceaccounts", name, namespace)
        if account is None or account["metadata"]["uid"] != about["serviceaccount"]["uid"]:
            return None
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        return user(claims["sub"], uid=account["metadata"]["uid"], extra=extra)

    def _private_key(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key = self._key or ec.generate_private_key(ec.SECP256R1())
        return self._key

    def _sign(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.hashes import SHA256

        signature = self._private_key().sign(message, ec.ECDSA(SHA256()))
        return b"".join(n.to_bytes(_HALF, "big") for n in utils.decode_dss_signature(signature))

    def _verifies(self, message: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.hashes import SHA256

        halves = (int.from_bytes(part, "big") for part in (signature[:_HALF], signature[_HALF:]))
        try:
            encoded = utils.encode_dss_signature(*halves)
            self._private_key().public_key().verify(encoded, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def _signing_key(encoded: str) -> str | None:
    """The access key that presigned a GetCallerIdentity; None for another URL, or one too old.

    As everywhere in the practice account the key is looked up, the signature is not verified.
    """
    try:
        query = parse_qs(urlsplit(_decode(encoded).decode()).query)
        signed = datetime.datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%S%z")
        named = query["X-Amz-SignedHeaders"][0].split(";")
        key = query["X-Amz-Credential"][0].partition("/")[0]
    except (KeyError, ValueError):
        return None
    # The header says for which cluster it was signed.
    asks = query.get("Action") == ["GetCallerIdentity"] and "x-k8s-aws-id" in named
    fresh = abs(time.time() - signed.timestamp()) < _AWS_SECONDS
    return key if asks and fresh else None


def _digest(token: str) -> str:
    """What is looked up: comparing digests tells nothing about the token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _json(value: Object) -> str:
    return _encode(json.dumps(value, separators=(",", ":")))


def _encode(value: str | bytes) -> str:
    raw = value.encode() if isinstance(value, str) else value
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
