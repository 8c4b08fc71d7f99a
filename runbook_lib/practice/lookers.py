"""The ordinary clients through which observations are made: the official ones, nothing of ours.

Each returns what JSON can carry, or raises CouldNotLook with the client's own words.
"""

from __future__ import annotations

import datetime
import inspect
import json
import socket
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.access import resource_path

if TYPE_CHECKING:
    import httpx

    from runbook_lib.practice.platform import Platform

SECONDS = 5.0
# Those of the platform's endpoints that speak plain HTTP.
HTTP_ENDPOINTS = ("mlflow", "api", "feast", "models", "prometheus", "alertmanager")


class CouldNotLook(Exception):
    """The client was refused, found nobody or gave up; its words."""


class Looker:
    """One client: a function of the platform and of what is asked."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def refuse_unknown(self, asked: dict[str, Any]) -> None:
        """ValueError where the client cannot be asked this."""
        try:
            inspect.signature(self.function).bind(None, **_named(asked))
        except TypeError as error:
            raise ValueError(f"{self.function.__name__}: {error}") from None
        if "at" in asked and asked["at"] not in HTTP_ENDPOINTS:
            raise ValueError(f"http: no endpoint {asked['at']!r}; {', '.join(HTTP_ENDPOINTS)}")

    def look(self, platform: Platform, **asked: Any) -> Any:
        return self.function(platform, **_named(asked))


def _named(asked: dict[str, Any]) -> dict[str, Any]:
    """`with` is a word of Python's."""
    return {"with_" if name == "with" else name: value for name, value in asked.items()}


def kubernetes(
    platform: Platform, get: str, namespace: str = "", labels: str = "", fields: str = ""
) -> Any:
    """`get` is PLURAL[.GROUP][/NAME[/SUBRESOURCE]], or a path that begins with a slash."""
    from urllib.parse import urlencode

    from urllib3.exceptions import HTTPError

    path = get if get.startswith("/") else resource_path(get, namespace)
    query = {"labelSelector": labels, "fieldSelector": fields}
    if query := {name: value for name, value in query.items() if value}:
        path += "?" + urlencode(query)
    client = _kubernetes_client(platform.env["KUBECONFIG"], platform.pid)
    request = client.param_serialize(
        "GET", path, header_params={"Accept": "application/json, */*"},
        query_params=[], auth_settings=["BearerToken"],
    )  # fmt: skip
    try:
        answer = client.call_api(*request, _request_timeout=SECONDS)
        body = answer.read().decode()
    except (HTTPError, OSError) as failure:
        raise CouldNotLook(str(failure)) from None
    if answer.status >= 400:
        raise CouldNotLook(f"{answer.status}: {body}")
    return _parsed(body)


@cache
def _kubernetes_client(kubeconfig: str, _: int) -> Any:
    """One client a platform: making one takes longer than a look."""
    import kubernetes

    # Before the client is made: it reads this once.
    configuration = kubernetes.client.Configuration(retries=False)
    configuration.proxy = None  # it is on loopback
    return kubernetes.config.new_client_from_config(kubeconfig, client_configuration=configuration)


def exec_(platform: Platform, command: list[str], labels: str, namespace: str) -> Any:
    """`{code, text}` of a command in the first pod that `labels` select; text is both streams."""
    from kubernetes import client, stream
    from urllib3.exceptions import HTTPError
    from websocket import WebSocketException

    api = client.CoreV1Api(_kubernetes_client(platform.env["KUBECONFIG"], platform.pid))
    ran = None
    try:
        ran = stream.stream(
            api.connect_get_namespaced_pod_exec,
            _pods(api, labels, namespace)[0],
            namespace,
            command=command,
            stderr=True,
            stdout=True,
            _preload_content=False,
            _request_timeout=SECONDS,
        )
        ran.run_forever(timeout=SECONDS)
        if ran.is_open():
            raise CouldNotLook(f"{command[0]} did not end")
        return {"code": ran.returncode, "text": ran.read_all()}
    except (client.ApiException, HTTPError, WebSocketException, OSError) as failure:
        raise CouldNotLook(str(failure)) from None
    finally:
        if ran is not None:
            ran.close()
            ran.sock.shutdown()  # where the server closed first, close leaves it open


def logs(
    platform: Platform, labels: str, namespace: str, container: str = "", previous: bool = False
) -> Any:
    """What the pods wrote that `labels` select, as `kubectl logs` without a limit prints it."""
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    api = client.CoreV1Api(_kubernetes_client(platform.env["KUBECONFIG"], platform.pid))
    more: dict[str, Any] = {"container": container} if container else {}
    try:
        return "".join(
            api.read_namespaced_pod_log(
                name, namespace, previous=previous, _request_timeout=SECONDS, **more
            )
            for name in _pods(api, labels, namespace)
        )
    except (client.ApiException, HTTPError, OSError) as failure:
        raise CouldNotLook(str(failure)) from None


def _pods(api: Any, labels: str, namespace: str) -> list[str]:
    """Names of running pods. Raises CouldNotLook where there is none."""
    found = api.list_namespaced_pod(namespace, label_selector=labels, _request_timeout=SECONDS)
    names = [one.metadata.name for one in found.items if not one.metadata.deletion_timestamp]
    if not names:
        raise CouldNotLook(f"no pod has the labels {labels}")
    return names


def sql(
    platform: Platform, run: str, role: str = "", database: str = "", seconds: float = SECONDS
) -> Any:
    """The rows of one statement, each a list; `role` is the on-call engineer's by default."""
    import psycopg

    env = platform.env
    user = role or env["PGUSER"]
    try:
        with psycopg.connect(
            host=env["PGHOST"],
            port=env["PGPORT"],
            dbname=database or env["PGDATABASE"],
            user=user,
            password=platform.passwords[user],
            sslmode=env["PGSSLMODE"],
            connect_timeout=int(SECONDS),
            options=f"-c statement_timeout={int(seconds * 1000)}",
            autocommit=True,
        ) as connection:
            cursor = connection.execute(run)
            rows = cursor.fetchall() if cursor.description else []
            return [[_plain(cell) for cell in row] for row in rows]
    except psycopg.Error as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None


def redis(platform: Platform, run: list[str | int], seconds: float = SECONDS) -> Any:
    """The answer to one command, as redis-py parses it: INFO is a mapping."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    env = platform.env
    client = Redis(
        host=env["REDIS_HOST"],
        port=int(env["REDIS_PORT"]),
        password=env["REDISCLI_AUTH"],
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),  # by itself it tries ten times more
        decode_responses=True,
    )
    try:
        with client:
            return client.execute_command(*run)
    except (RedisError, OSError) as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None


def http(
    platform: Platform,
    at: str,
    path: str = "/",
    method: str = "GET",
    json: Any = None,
    headers: dict[str, str] | None = None,
    seconds: float = SECONDS,
    times: int = 1,
    login: bool = False,
) -> Any:
    """`{status, seconds, text, json}` of the endpoint that `at` names (see platform.json).

    With `times` the request is made so often, and the answer has `statuses`, sorted, too. With
    `login` its user logs in there first and sends the token along.
    """
    import httpx

    base = platform.endpoints[at]
    statuses = []
    try:
        with httpx.Client(trust_env=False, timeout=seconds) as client:
            if login:
                headers = {**(headers or {}), "Authorization": _token(client, base, platform.env)}
            for _ in range(times):
                began = time.monotonic()
                answer = client.request(method, base + path, json=json, headers=headers)
                statuses.append(answer.status_code)
    except httpx.TransportError as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None
    return {
        "status": answer.status_code,
        "statuses": sorted(statuses),
        "seconds": time.monotonic() - began,
        "text": answer.text,
        "json": _parsed(answer.text),
    }


def _token(client: httpx.Client, base: str, env: dict[str, str]) -> str:
    """What Authorization says after a login. Raises CouldNotLook where it is refused."""
    user = {"username": env["PLATFORM_API_USERNAME"], "password": env["PLATFORM_API_PASSWORD"]}
    answer = client.post(f"{base}/api/v1/auth/login", json=user)
    if answer.is_error:
        raise CouldNotLook(f"login: {answer.status_code}: {answer.text}")
    return f"Bearer {answer.json()['access_token']}"


def aws(
    platform: Platform,
    call: str,
    with_: dict[str, Any] | None = None,
    ago: dict[str, float] | None = None,
    seconds: float = SECONDS,
) -> Any:
    """`call` is service.operation, as in boto3; the answer without its metadata.

    `ago` are arguments that are moments, in seconds before now: `{StartTime: 3600, EndTime: 0}`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    service, _, operation = call.partition(".")
    now = datetime.datetime.now(datetime.UTC)
    moments = {key: now - datetime.timedelta(seconds=age) for key, age in (ago or {}).items()}
    arguments = {**(with_ or {}), **moments}
    try:
        client = aws_client(platform, service, seconds)
        if not hasattr(client, operation):
            raise CouldNotLook(f"{service} has no operation {operation!r}")
        answer = getattr(client, operation)(**arguments)
    except (BotoCoreError, ClientError) as failure:
        raise CouldNotLook(str(failure)) from None
    answer.pop("ResponseMetadata", None)
    return _plain(answer)


def aws_client(platform: Platform, service: str, seconds: float = SECONDS) -> Any:
    """boto3's client of a service, as the on-call engineer; it asks once, for so many seconds."""
    import boto3
    from botocore.config import Config

    env = platform.env
    waits = {"connect_timeout": seconds, "read_timeout": seconds}
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}, proxies={}, **waits),
    )


def promql(platform: Platform, query: str) -> Any:
    """The values of an instant query, as numbers, in the order of the answer."""
    import httpx

    try:
        answer = httpx.get(
            platform.endpoints["prometheus"] + "/api/v1/query",
            params={"query": query},
            trust_env=False,
            timeout=SECONDS,
        )
        body = answer.json()
    except (httpx.TransportError, ValueError) as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None
    if answer.is_error:
        raise CouldNotLook(f"{answer.status_code}: {answer.text}")
    result = body["data"]["result"]
    vector = [{"value": result}] if body["data"]["resultType"] == "scalar" else result
    return [float(one["value"][1]) for one in vector]


def alerts(platform: Platform) -> Any:
    """The names of the alerts that fire, sorted, without the two that always do."""
    import httpx

    try:
        answer = httpx.get(
            platform.endpoints["prometheus"] + "/api/v1/alerts", trust_env=False, timeout=SECONDS
        )
        found = answer.json()["data"]["alerts"]
    except (httpx.TransportError, ValueError, KeyError) as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None
    names = {one["labels"]["alertname"] for one in found if one["state"] == "firing"}
    return sorted(names - {"Watchdog", "InfoInhibitor"})


def tls(platform: Platform, host: str, path: str = "/health", resolve: bool = False) -> Any:
    """`{status, protocol, days_left, names}` over TLS to `host`, trusting the platform's CA.

    With `resolve` at the address that the name server gives, else at the load balancer's.
    """
    # Slow to import, and only this looker needs it.
    from cryptography import x509

    address, _, port = platform.endpoints["gateway"].rpartition(":")
    if resolve:
        address = dns(platform, host)[0]
    context = ssl.create_default_context(cafile=platform.endpoints["gateway_ca"])
    try:
        with (
            socket.create_connection((address, int(port)), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            found = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
            secured.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            status = secured.makefile("rb").readline().split()[1:2]
            protocol = secured.version()
    except (OSError, ValueError) as failure:
        raise CouldNotLook(f"{type(failure).__name__}: {failure}") from None
    left = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        "status": int(status[0]) if status else 0,
        "protocol": protocol,
        "days_left": left.total_seconds() / 86400,
        "names": names.get_values_for_type(x509.DNSName),
    }


def dns(platform: Platform, name: str, type: str = "A", seconds: float = 2.0) -> Any:
    """The records' texts, sorted, as the platform's name server answers."""
    import dns.exception
    import dns.resolver

    address, _, port = platform.endpoints["dns"].rpartition(":")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = [address], int(port), seconds
    try:
        return sorted(record.to_text() for record in resolver.resolve(name, type))
    except dns.exception.DNSException as failure:
        raise CouldNotLook(f"{failure.__class__.__name__}: {failure}") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """What JSON can carry: dates and other things become text."""
    return json.loads(json.dumps(value, default=str))


LOOKERS = {
    function.__name__.rstrip("_"): Looker(function)
    for function in (kubernetes, exec_, logs, sql, redis, http, aws, promql, alerts, tls, dns)
}
