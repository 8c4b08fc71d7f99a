"""The platform API: tokens, models and experiments, from Postgres, MLflow and a Redis cache.

Each pod works with the environment that it started with: its own secret, pool and time limits.
What its code does not catch is 500, with the traceback in its log.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.store import Store
from runbook_lib.practice.services import tokens
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.services.exchange import Answer, Call
from runbook_lib.practice.services.neighbours import SilentError, UnreachableError, Where, reach
from runbook_lib.practice.services.pool import Limits, Pool, PoolTimeoutError, parameters
from runbook_lib.practice.services.routing import Backend
from runbook_lib.practice.services.rules import Raised
from runbook_lib.practice.services.tokens import Policy, TokenError

HOST = "api.mlops-platform.com"
LOGIN, MODELS, EXPERIMENTS = "/api/v1/auth/login", "/api/v1/models", "/api/v1/experiments"
AUDIENCE, ISSUER = "platform-api", "https://api.mlops-platform.com"
_ROLES = {"scientist": "viewer", "admin": "admin"}
_VERSIONS = "SELECT name, version, current_stage, status FROM model_versions ORDER BY name, version"
_EXPERIMENTS = (
    "SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'"
    " ORDER BY last_update_time DESC LIMIT 100"
)
_CACHE_SECONDS = 2.0
_LOGIN_EVERY = 20
_PACKAGES = "/usr/local/lib/python3.11/site-packages/"


class PlatformApi(Application):
    """The API behind Service platform-api. `where` says where MLflow and Redis really listen."""

    def __init__(self, store: Store, kubelet: Kubelet, where: Where) -> None:
        super().__init__(
            store,
            kubelet,
            app="platform-api",
            backend=Backend("mlops-platform", "platform-api", 80),
            host=HOST,
        )
        self._where = where
        self._leaking: str = ""
        self._clocks: dict[str, float] = {}
        self._token = ""
        self._session: Any = None
        # Who may log in; each name's role is in _ROLES.
        self.passwords = {name: secrets.token_urlsafe(18) for name in _ROLES}

    def secrets(self) -> list[str]:
        return list(self.passwords.values())

    def environment(self) -> dict[str, str]:
        return {
            "PLATFORM_API_USERNAME": "scientist",
            "PLATFORM_API_PASSWORD": self.passwords["scientist"],
        }

    async def stop(self) -> None:
        await super().stop()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def heal(self) -> None:
        self._leaking, self._clocks = "", {}
        await super().heal()

    # verbs

    def verbs(self) -> Mapping[str, Callable[..., Any]]:
        return {**super().verbs(), "leak": self.leak, "skew_clock": self.skew_clock}

    def leak(self, path: str = MODELS) -> None:
        """Requests for a path do not give their database connection back to the pod's pool."""
        if path not in (MODELS, EXPERIMENTS):
            raise ValueError(f"{MODELS} and {EXPERIMENTS} use connections, not {path!r}")
        self._leaking = path

    def skew_clock(self, node: str, seconds: float) -> None:
        """The clock of a node is ahead by so many seconds, behind where negative."""
        if self._store.find("nodes", node) is None:
            raise ValueError(f"there is no node {node!r}")
        self._clocks[node] = seconds

    # a quiet hour

    def usual_request(self, number: int) -> tuple[str, str, dict[str, str], Any]:
        if number % _LOGIN_EVERY == 1 or not self._token:
            body = {"username": "scientist", "password": self.passwords["scientist"]}
            return "POST", LOGIN, {}, body
        path = (MODELS, EXPERIMENTS)[number % 2]
        return "GET", path, {"Authorization": f"Bearer {self._token}"}, None

    def saw(self, path: str, body: bytes) -> None:
        if path == LOGIN and body.startswith(b'{"access_token"'):
            self._token = json.loads(body)["access_token"]

    # requests

    async def answer(self, call: Call) -> Answer:
        if call.path == "/health":
            return Answer(200, {"status": "healthy"})
        if call.path == LOGIN:
            return self._login(call) if call.method == "POST" else _detail(405)
        if call.path not in (MODELS, EXPERIMENTS) and not call.path.startswith(f"{MODELS}/"):
            return _detail(404)
        try:
            claims = self._authenticate(call)
        except TokenError as error:
            call.log(f"WARNING:  auth: 401 Unauthorized on {call.path}: {error}")
            answer = Answer(401, {"detail": f"Invalid token: {error}"})
            return Answer(401, answer.body, headers={"WWW-Authenticate": "Bearer"})
        if call.path == EXPERIMENTS and call.method == "POST":
            return await self._create_experiment(call, claims)
        if call.method != "GET":
            return _detail(405)
        if call.path == EXPERIMENTS:
            return Answer(200, {"experiments": await self._rows(call, _EXPERIMENTS)})
        return await self._models(call)

    def _now(self, call: Call) -> float:
        return time.time() + self._clocks.get(call.target.pod["spec"].get("nodeName", ""), 0.0)

    def _login(self, call: Call) -> Answer:
        try:
            given = json.loads(call.body)
            name, password = str(given["username"]), str(given["password"])
        except (ValueError, KeyError, TypeError):
            missing = [{"type": "missing", "loc": ["body"], "msg": "Field required"}]
            return Answer(422, {"detail": missing})
        known = self.passwords.get(name, secrets.token_urlsafe(18))
        if not hmac.compare_digest(known.encode(), password.encode()):
            call.log("WARNING:  auth: 401 Unauthorized: incorrect username or password")
            return Answer(401, {"detail": "Incorrect username or password"})
        lifetime, now = int(call.env.get("JWT_EXPIRATION", "3600")), int(self._now(call))
        claims = {
            "sub": name,
            "role": _ROLES[name],
            "aud": call.env.get("JWT_AUDIENCE", AUDIENCE),
            "iss": call.env.get("JWT_ISSUER", ISSUER),
            "iat": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
        }
        token = tokens.encode(claims, call.env.get("JWT_SECRET", ""))
        return Answer(200, {"access_token": token, "token_type": "bearer", "expires_in": lifetime})

    def _authenticate(self, call: Call) -> dict[str, Any]:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenError("Not authenticated")
        if url := call.env.get("OIDC_JWKS_URL"):
            self._fetch_keys(call, url)
        policy = Policy(
            call.env.get("JWT_AUDIENCE", AUDIENCE),
            call.env.get("JWT_ISSUER", ISSUER),
            float(call.env.get("JWT_LEEWAY", "0")),
            self._now(call),
        )
        return tokens.decode(token, call.env.get("JWT_SECRET", ""), policy)

    def _fetch_keys(self, call: Call, url: str) -> None:
        """Nothing on the practice platform serves signing keys: asking for them always fails."""
        try:
            self._reach(call, url, lambda _: None)
        except UnreachableError as error:
            raise TokenError(
                f'Fail to fetch data from the url, err: "<urlopen error {error}>"'
            ) from None

    def _reach(self, call: Call, url: str, where: Where) -> tuple[str, str]:
        return reach(self._kubelet.network, self._store, call.target.pod, url, where)

    # models and experiments

    async def _models(self, call: Call) -> Answer:
        rows = await self._rows(call, _VERSIONS)
        registered = await self._registered(call)
        models = [
            {**model, "versions": [row for row in rows if row["name"] == model["name"]]}
            for model in registered
        ]
        if call.path == MODELS:
            return Answer(200, {"models": models, "total": len(models)})
        name = call.path.removeprefix(f"{MODELS}/")
        found = next((model for model in models if model["name"] == name), None)
        if found is None:
            return Answer(404, {"detail": f"Model {name} not found"})
        return Answer(200, found)

    async def _create_experiment(self, call: Call, claims: dict[str, Any]) -> Answer:
        if claims.get("role") != "admin":
            words = f"Role '{claims.get('role')}' may not create experiments"
            call.log(f"WARNING:  auth: 403 Forbidden on {call.path}: {words}")
            return Answer(403, {"detail": words})
        try:
            name = str(json.loads(call.body)["name"])
        except (ValueError, KeyError, TypeError):
            missing = [{"type": "missing", "loc": ["body", "name"], "msg": "Field required"}]
            return Answer(422, {"detail": missing})
        status, body = await self._ask_mlflow(call, "POST", "experiments/create", {"name": name})
        return Answer(201 if status == 200 else status, body)

    async def _rows(self, call: Call, query: Any) -> list[dict[str, Any]]:
        """Rows of the database, through the pod's pool. Raises Raised as SQLAlchemy would."""
        import psycopg

        leak = self._leaking == call.path
        try:
            pool = self.pool(call, lambda: _pool(call.env))
            async with pool.connection(leak=leak) as connection:
                return await (await connection.execute(query)).fetchall()
        except PoolTimeoutError as error:
            raise Raised("sqlalchemy.exc.TimeoutError", str(error), _sql("_do_get")) from None
        except ValueError as error:
            raise Raised("sqlalchemy.exc.ArgumentError", str(error), _sql("make_url")) from None
        except psycopg.Error as error:
            name = type(error).__name__
            text = f"(psycopg.{name}) {str(error).rstrip()}"
            kind = name if name == "OperationalError" else "ProgrammingError"
            raise Raised(f"sqlalchemy.exc.{kind}", text, _sql("connect")) from None

    async def _registered(self, call: Call) -> list[dict[str, Any]]:
        """MLflow's registered models, from the cache where there is one."""
        if call.env.get("REDIS_CACHE_ENABLED", "false").lower() != "true":
            return await self._registered_in_mlflow(call)
        from redis.exceptions import RedisError

        url = call.env.get("REDIS_CACHE_URL", "redis://feast-redis-master:6379/1")
        key = f"platform-api:models:{call.query.get('page', '1')}"
        try:
            place, _ = self._reach(call, url, self._where)
            async with _cache(place) as cache:
                if kept := await cache.get(key):
                    found: list[dict[str, Any]] = json.loads(kept)
                    return found
                fresh = await self._registered_in_mlflow(call)
                await cache.set(
                    key, json.dumps(fresh), ex=int(call.env.get("REDIS_CACHE_TTL", "300"))
                )
                return fresh
        except SilentError:
            await asyncio.sleep(_CACHE_SECONDS)
            text = "Timeout connecting to server"
            raise Raised("redis.exceptions.TimeoutError", text, _redis()) from None
        except UnreachableError as error:
            text = f"Error {error} connecting to {url.partition('//')[2]}."
            raise Raised("redis.exceptions.ConnectionError", text, _redis()) from None
        except RedisError as error:
            name = f"redis.exceptions.{type(error).__name__}"
            raise Raised(name, str(error), _redis()) from None

    async def _registered_in_mlflow(self, call: Call) -> list[dict[str, Any]]:
        status, body = await self._ask_mlflow(call, "GET", "registered-models/search")
        if status != 200:
            text = f"Server error '{status}' for url '{call.env.get('MLFLOW_TRACKING_URI')}'"
            raise Raised("httpx.HTTPStatusError", text, _http("raise_for_status"))
        found: list[dict[str, Any]] = body.get("registered_models", [])
        return [{"name": model["name"]} for model in found]

    async def _ask_mlflow(
        self, call: Call, method: str, path: str, body: Any = None
    ) -> tuple[int, Any]:
        """Ask MLflow over HTTP. Raises Raised as httpx would."""
        import aiohttp

        root = call.env.get("MLFLOW_TRACKING_URI", "http://mlflow:5000").rstrip("/")
        url = f"{root}/api/2.0/mlflow/{path}"
        limit = float(call.env.get("MLFLOW_TIMEOUT", "10"))
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            place, host = self._reach(call, url, self._where)
            async with (
                asyncio.timeout(limit),
                self._session.request(method, place, json=body, headers={"Host": host}) as got,
            ):
                text = await got.text()
                is_json = "json" in got.headers.get("Content-Type", "")
                return got.status, json.loads(text) if is_json else {"detail": text}
        except TimeoutError:
            words = f"no answer from {url} within {limit:g} s"
            raise Raised("httpx.ReadTimeout", words, _http("read")) from None
        except SilentError:
            await asyncio.sleep(limit)
            raise Raised("httpx.ConnectTimeout", "timed out", _http("connect_tcp")) from None
        except (UnreachableError, aiohttp.ClientError) as error:
            raise Raised("httpx.ConnectError", str(error), _http("connect_tcp")) from None


def _detail(status: int) -> Answer:
    return Answer(status, {"detail": {404: "Not Found", 405: "Method Not Allowed"}[status]})


def _pool(env: Mapping[str, str]) -> Pool:
    limits = Limits(
        int(env.get("DB_POOL_SIZE", "5")),
        int(env.get("DB_MAX_OVERFLOW", "10")),
        float(env.get("DB_POOL_TIMEOUT", "30")),
    )
    connect = {**parameters(env.get("DATABASE_URL", "")), "sslmode": "disable"}
    return Pool(connect, limits, "platform-api")


def _cache(url: str) -> Any:
    from redis.asyncio import Redis

    return Redis.from_url(url, socket_timeout=_CACHE_SECONDS, socket_connect_timeout=_CACHE_SECONDS)


def _sql(last: str) -> tuple[tuple[str, int, str], ...]:
    return (
        ("/app/routes/models.py", 34, "list_models"),
        ("/app/database.py", 21, "session"),
        (f"{_PACKAGES}sqlalchemy/pool/impl.py", 166, last),
    )


def _redis() -> tuple[tuple[str, int, str], ...]:
    return (
        ("/app/routes/models.py", 41, "list_models"),
        ("/app/cache.py", 17, "get"),
        (f"{_PACKAGES}redis/asyncio/connection.py", 303, "connect"),
    )


def _http(last: str) -> tuple[tuple[str, int, str], ...]:
    return (
        ("/app/routes/models.py", 44, "list_models"),
        ("/app/mlflow_client.py", 28, "registered_models"),
        (f"{_PACKAGES}httpx/_transports/default.py", 249, last),
    )
