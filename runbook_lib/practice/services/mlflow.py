"""MLflow 3: its API over its tables in Postgres and its artifacts in S3.

Facts of the real server (3.17) that are kept: /health answers 200 without a database; what
SQLAlchemy calls OperationalError is 503 TEMPORARILY_UNAVAILABLE, every other database error 400
BAD_REQUEST, the wait for a connection included; a server that starts on another schema than its
own, or without a database, ends.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.objects.store import Object, Store
from runbook_lib.practice.services import mlflow_store as tables
from runbook_lib.practice.services.application import Application
from runbook_lib.practice.services.cloud import Cloud, client_in
from runbook_lib.practice.services.exchange import Answer, Call
from runbook_lib.practice.services.mlflow_errors import MlflowError, parsed
from runbook_lib.practice.services.mlflow_routes import DESTINATION, ROUTES, Work
from runbook_lib.practice.services.pool import Limits, Pool, PoolTimeoutError, parameters
from runbook_lib.practice.services.routing import Backend
from runbook_lib.practice.services.rules import Raised

if TYPE_CHECKING:
    import psycopg


VERSION = "3.17.2"
HOST = "mlflow.mlops-platform.com"
API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_HTML = "text/html; charset=utf-8"
_FLASK = (
    "<!doctype html>\n<html lang=en>\n<title>{status} {title}</title>\n<h1>{title}</h1>\n"
    "<p>{text}</p>\n"
)
_WORDS = {
    401: ("Unauthorized", "You are not authenticated."),
    404: (
        "Not Found",
        "The requested URL was not found on the server. If you entered the URL manually please "
        "check your spelling and try again.",
    ),
    405: ("Method Not Allowed", "The method is not allowed for the requested URL."),
    500: (
        "Internal Server Error",
        "The server encountered an internal error and was unable to complete your request. Either "
        "the server is overloaded or there is an error in the application.",
    ),
}
_PAGE = "<!doctype html><html lang=en><head><title>MLflow</title></head><body></body></html>"
_SQLALCHEMY = "/usr/local/lib/python3.11/site-packages/sqlalchemy/"
_MLFLOW = "/usr/local/lib/python3.11/site-packages/mlflow/"


class Mlflow(Application):
    """The tracking server behind Service mlflow."""

    def __init__(self, store: Store, kubelet: Kubelet, aws: Cloud) -> None:
        super().__init__(
            store,
            kubelet,
            app="mlflow",
            backend=Backend("mlops-platform", "mlflow", 5000),
            host=HOST,
        )
        self._aws = aws
        self._expected_schema = ""
        # For servers that are started with `--app-name basic-auth`.
        self.username, self.password = "admin", secrets.token_urlsafe(18)

    def secrets(self) -> list[str]:
        return [self.password]

    def usual_request(self, number: int) -> tuple[str, str, dict[str, str], Any]:
        if number % 2:
            return "POST", f"{API}experiments/search", {}, {"max_results": 25}
        runs = {"experiment_ids": [str(number % 20 + 1)], "max_results": 10}
        return "POST", f"{API}runs/search", {}, runs

    def route_of(self, path: str) -> str:
        return ARTIFACTS if path.startswith(ARTIFACTS) else path

    def access_line(self, call: Call, path: str, status: int) -> str:
        from datetime import UTC, datetime

        now = datetime.now(UTC).strftime("%Y/%m/%d %H:%M:%S")
        return f"{now} {super().access_line(call, path, status)}"

    # a container begins

    async def container_started(self, pod: Object, env: Mapping[str, str]) -> None:
        """Look at the database as the server does before it serves; end where that fails."""
        import psycopg

        try:
            pool = _pool(env, Limits(1, 0))
        except ValueError as error:
            lines: tuple[str, ...] = _start_failed(f"sqlalchemy.exc.ArgumentError: {error}")
            self._kubelet.end(pod, self.container_of(pod), 1, lines, "Error")
            return
        try:
            async with pool.connection() as connection:
                found = await tables.schema_version(connection)
        except psycopg.OperationalError as error:
            lines = _start_failed(f"sqlalchemy.exc.OperationalError: {_sqlalchemy(error)}")
        except psycopg.errors.UndefinedTable:
            lines = _start_failed(_out_of_date("None", self._expected_schema))
        else:
            # The first container of all knows the schema that the platform was made with.
            self._expected_schema = self._expected_schema or found
            if found == self._expected_schema:
                return
            lines = _start_failed(_out_of_date(found, self._expected_schema))
        finally:
            await pool.close()
        self._kubelet.end(pod, self.container_of(pod), 1, lines, "Error")

    # requests

    async def answer(self, call: Call) -> Answer:
        if call.path == "/health":
            return Answer(200, "OK", "text/plain; charset=utf-8")
        if not is_allowed(call.headers.get("Host", ""), call.env):
            words = "Invalid Host header - possible DNS rebinding attack detected"
            return Answer(403, words, "text/plain")
        if not self._may_enter(call):
            challenge = {"WWW-Authenticate": 'Basic realm="mlflow"'}
            words = (
                "You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/"
                "index.html#authenticating-to-mlflow on how to authenticate."
            )
            return Answer(401, words, "text/plain; charset=utf-8", challenge)
        if call.path == "/version":
            return Answer(200, VERSION, _HTML)
        if call.path == "/":
            return Answer(200, _PAGE, _HTML)
        if call.path == "/metrics" and _exposes_metrics(call):
            return Answer(200, self._exposition(), "text/plain; version=0.0.4; charset=utf-8")
        if call.path.startswith(ARTIFACTS):
            return await self._proxy(call)
        return await self._api(call)

    def failed(self, error: Raised) -> Answer:
        return _page(500)

    def error_lines(self, call: Call, error: Raised) -> Iterable[str]:
        where = f"Exception on {call.path} [{call.method}]"
        return (f"ERROR mlflow.server: {where}", *error.traceback)

    def _may_enter(self, call: Call) -> bool:
        if "MLFLOW_AUTH_CONFIG_PATH" not in call.env:
            return True
        wanted = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return hmac.compare_digest(call.headers.get("Authorization", ""), f"Basic {wanted}")

    def _exposition(self) -> str:
        lines = []
        for sample in self._counters.collect():
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            lines.append(f"{sample.name}{{{labels}}} {sample.value}")
        return "\n".join(lines) + "\n"

    async def _api(self, call: Call) -> Answer:
        route = ROUTES.get(call.path.removeprefix(API)) if call.path.startswith(API) else None
        if route is None:
            return _page(404)
        methods, handler = route
        if call.method not in methods:
            return _page(405)
        given = dict(call.query) if call.method == "GET" else parsed(call.body)
        try:
            body = await self._in_session(call, handler(given, call.env))
        except MlflowError as error:
            if error.status >= 500:
                name = "_" + call.path.removeprefix(API).replace("/", "_").replace("-", "_")
                call.log(
                    f"ERROR mlflow.server.handlers: Error in {name}: {error}. "
                    "Set MLFLOW_LOGGING_LEVEL=DEBUG for traceback."
                )
            return Answer(error.status, error.body)
        if call.path == f"{API}artifacts/list":
            return await self._list_artifacts(call, body["run"]["info"]["artifact_uri"])
        return Answer(200, body)

    async def _list_artifacts(self, call: Call, root: str) -> Answer:
        """The artifacts of a run, from where its server keeps them."""
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, key = root.removeprefix("s3://").partition("/")
        key = f"{key}/{call.query.get('path', '')}".strip("/")
        try:
            listed = await asyncio.to_thread(self._listed, call, bucket, key)
        except (BotoCoreError, ClientError) as error:
            raise self._s3_failed(call, error, bucket, key) from None
        return Answer(200, {"root_uri": root, **listed})

    async def _in_session(self, call: Call, work: Work) -> Any:
        """Do something with a connection of the pod's pool. Raises MlflowError."""
        import psycopg

        pool = self.pool(call, lambda: _pool(call.env, _limits(call.env)))
        try:
            async with pool.connection() as connection:
                return await work(connection)
        except psycopg.OperationalError as error:
            text = _sqlalchemy(error)
            traced = Raised("sqlalchemy.exc.OperationalError", text, _frames("connect"))
            call.log(
                "ERROR mlflow.store.db.utils: SQLAlchemy database error. "
                f"The following exception is caught.\n{text}"
            )
            for line in traced.traceback:
                call.log(line)
            raise MlflowError("TEMPORARILY_UNAVAILABLE", text) from None
        except PoolTimeoutError as error:
            traced = Raised("sqlalchemy.exc.TimeoutError", str(error), _frames("_do_get"))
            for line in traced.traceback:
                call.log(line)
            raise MlflowError("BAD_REQUEST", str(error)) from None
        except psycopg.Error as error:
            raise MlflowError("BAD_REQUEST", _sqlalchemy(error)) from None

    # artifacts

    async def _proxy(self, call: Call) -> Answer:
        """Artifacts go through the server to the bucket and back."""
        from botocore.exceptions import BotoCoreError, ClientError

        destination = call.env.get("MLFLOW_ARTIFACTS_DESTINATION", DESTINATION)
        bucket, _, root = destination.removeprefix("s3://").partition("/")
        path = call.path.removeprefix(ARTIFACTS).strip("/") or call.query.get("path", "")
        key = f"{root.strip('/')}/{path}".strip("/")
        if call.method not in ("GET", "PUT"):
            return _page(405)
        try:
            return await asyncio.to_thread(self._transfer, call, bucket, key, path)
        except ClientError as error:
            if call.method == "GET" and error.response["Error"]["Code"] == "NoSuchKey":
                # What the real server makes of a key that S3 does not have.
                text = (
                    "The following failures occurred while downloading one or more artifacts "
                    f"from {destination}:\n##### File {path} #####\nAn error occurred (404) when "
                    "calling the HeadObject operation: Not Found"
                )
                missing = MlflowError("INTERNAL_ERROR", text)
                return Answer(missing.status, missing.body)
            raise self._s3_failed(call, error, bucket, key) from None
        except BotoCoreError as error:
            raise self._s3_failed(call, error, bucket, key) from None

    def _transfer(self, call: Call, bucket: str, key: str, path: str) -> Answer:
        if call.method == "PUT":
            self._s3(call).put_object(Bucket=bucket, Key=key, Body=call.body)
            return Answer(200, "", "text/plain")
        if call.path.rstrip("/") == ARTIFACTS:
            return Answer(200, self._listed(call, bucket, key))
        found = self._s3(call).get_object(Bucket=bucket, Key=key)
        return Answer(200, found["Body"].read(), "application/octet-stream")

    def _s3(self, call: Call) -> Any:
        pod, container = call.target.pod, call.target.container
        return client_in(self._aws, self._store, self._kubelet, pod, container, "s3")

    def _listed(self, call: Call, bucket: str, key: str) -> dict[str, Any]:
        prefix = f"{key}/" if key else ""
        answer = self._s3(call).list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
        files = [
            {"path": one["Prefix"].removeprefix(prefix).rstrip("/"), "is_dir": True}
            for one in answer.get("CommonPrefixes", [])
        ]
        for one in answer.get("Contents", []):
            name = one["Key"].removeprefix(prefix)
            files.append({"path": name, "is_dir": False, "file_size": one["Size"]})
        return {"files": files} if files else {}

    def _s3_failed(self, call: Call, error: Exception, bucket: str, key: str) -> Raised:
        frames = (
            (f"{_MLFLOW}server/handlers.py", 4028, "_upload_artifact"),
            (f"{_MLFLOW}store/artifact/s3_artifact_repo.py", 233, "_upload_file"),
        )
        if call.method == "PUT":
            text = f"Failed to upload /tmp/{key.rpartition('/')[2]} to {bucket}/{key}: {error}"
            return Raised("boto3.exceptions.S3UploadFailedError", text, frames)
        return Raised(f"botocore.exceptions.{type(error).__name__}", str(error), frames)


def is_allowed(host: str, env: Mapping[str, str]) -> bool:
    """MLFLOW_SERVER_ALLOWED_HOSTS, as MLflow matches it; without it, what is local is allowed."""
    listed = env.get("MLFLOW_SERVER_ALLOWED_HOSTS")
    if listed is None:  # the cluster's names stand for the private addresses that MLflow allows
        name = host.partition(":")[0]
        return "." not in name or fnmatch.fnmatch(name, "127.0.0.1") or name.startswith("10.")
    allowed = [one.strip() for one in listed.split(",")]
    return "*" in allowed or any(
        fnmatch.fnmatch(host, one) if "*" in one else host == one for one in allowed
    )


def _page(status: int) -> Answer:
    title, text = _WORDS[status]
    return Answer(status, _FLASK.format(status=status, title=title, text=text), _HTML)


def _exposes_metrics(call: Call) -> bool:
    arguments = [
        str(word)
        for one in call.target.pod["spec"]["containers"]
        if one["name"] == call.target.container
        for word in [*(one.get("command") or []), *(one.get("args") or [])]
    ]
    return any(word.startswith("--expose-prometheus") for word in arguments)


# the database


def _pool(env: Mapping[str, str], limits: Limits) -> Pool:
    """The pool that the variables of a container describe."""
    if url := env.get("MLFLOW_BACKEND_STORE_URI"):
        connect = parameters(url)
    else:
        connect = {
            "host": env.get("DB_HOST", ""),
            "port": env.get("DB_PORT", "5432"),
            "user": env.get("DB_USERNAME", ""),
            "password": env.get("DB_PASSWORD", ""),
            "dbname": env.get("DB_DATABASE", ""),
        }
    return Pool({**connect, "sslmode": "disable"}, limits, "mlflow")


def _limits(env: Mapping[str, str]) -> Limits:
    """SQLAlchemy's defaults where MLflow is told nothing."""
    return Limits(
        int(env.get("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "5")),
        int(env.get("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", "10")),
    )


def _sqlalchemy(error: psycopg.Error) -> str:
    """A database error in SQLAlchemy's words."""
    name = type(error).__name__
    where = "psycopg" if name == "OperationalError" else "psycopg.errors"
    link = "(Background on this error at: https://sqlalche.me/e/20/e3q8)"
    return f"({where}.{name}) {str(error).rstrip()}\n{link}"


def _frames(last: str) -> tuple[tuple[str, int, str], ...]:
    return (
        (f"{_MLFLOW}store/db/utils.py", 174, "make_managed_session"),
        (f"{_SQLALCHEMY}engine/base.py", 3303, "raw_connection"),
        (f"{_SQLALCHEMY}pool/base.py", 460, last),
    )


def _out_of_date(found: str, expected: str) -> str:
    return (
        "mlflow.exceptions.MlflowException: Detected out-of-date database schema (found version "
        f"{found}, but expected {expected}). Take a backup of your database, then run "
        "'mlflow db upgrade <database_uri>' to migrate your database to the latest schema. NOTE: "
        "schema migration may result in database downtime - please consult your database's "
        "documentation for more detail."
    )


def _start_failed(text: str) -> tuple[str, ...]:
    return (
        "ERROR mlflow.cli: Error initializing backend store",
        f"ERROR mlflow.cli: {text.partition(': ')[2].splitlines()[0]}",
        "Traceback (most recent call last):",
        f'  File "{_MLFLOW}cli/__init__.py", line 560, in server',
        f'  File "{_MLFLOW}server/handlers.py", line 430, in initialize_backend_stores',
        f'  File "{_MLFLOW}store/tracking/sqlalchemy_store.py", line 268, in __init__',
        *text.splitlines(),
    )
