"""Who asks: bearer tokens of users and of ServiceAccounts, and those that a webhook takes.

ServiceAccount tokens are JSON web tokens (RFC 7519) signed by the cluster (ES256), with the claims
of the TokenRequest API.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.objects.veil import DIRECTORS

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

ISSUER = AUDIENCE = "https://kubernetes.default.svc"
MASTERS = "system:masters"
_AUTHENTICATED = "system:authenticated"
_ACCOUNT = "system:serviceaccount:"
_HEADER = {"alg": "ES256", "typ": "JWT"}


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
        self._key: ECKey | None = None
        # Asked last, as a token authentication webhook is.
        self.webhook: Callable[[str], User | None] = lambda _: None
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
        return self._users.get(_digest(token)) or self._account(token) or self.webhook(token)

    # tokens of ServiceAccounts

    def issue(self, account: Object, audiences: list[str], lifetime: int) -> tuple[str, float]:
        """A token for a ServiceAccount, and the Unix time at which it expires."""
        # Slow to import; only the practice platform has it.
        from joserfc import jwt

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
        token = jwt.encode(_HEADER, claims, self._signing_key())
        self.handed_out.append(token)
        return token, now + lifetime

    def _account(self, token: str) -> User | None:
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            claims = jwt.decode(token, self._signing_key(), algorithms=[_HEADER["alg"]]).claims
        except JoseError:
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

    def _signing_key(self) -> ECKey:
        from joserfc.jwk import ECKey

        self._key = self._key or ECKey.generate_key("P-256")
        return self._key


def _digest(token: str) -> str:
    """What is looked up: comparing digests tells nothing about the token."""
    return hashlib.sha256(token.encode()).hexdigest()
