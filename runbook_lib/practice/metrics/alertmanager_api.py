"""The built-in Alertmanager's HTTP API, /api/v2, and its way to webhooks.

Source: api/v2/openapi.yaml and notify of Alertmanager 0.25.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.metrics.alertmanager import (
    GROUP_BY,
    GROUP_INTERVAL,
    GROUP_WAIT,
    REPEAT_INTERVAL,
    UNROUTED,
    Held,
    Manager,
    Matcher,
    Notice,
    Silence,
    matcher,
    stamp,
)
from runbook_lib.practice.metrics.faces import Face
from runbook_lib.practice.metrics.samples import Labels
from runbook_lib.practice.wait import cancel, lasting

if TYPE_CHECKING:
    from aiohttp import ClientSession, web

_LOG = logging.getLogger(__name__)
VERSION = "0.25.0"
RESOLVE_SECONDS = 300.0
_TICK_SECONDS = 0.1
_TIMEOUT_SECONDS = 5.0
_RETRIES = 5
Handler = Callable[["web.Request"], Awaitable["web.Response"]]


class AlertmanagerApi(Face):
    """Takes alerts, tells receivers, and answers as Alertmanager does."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = Manager(lambda: self.url)
        self._began = time.time()
        self._task: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        from aiohttp import web

        return [
            web.get("/-/healthy", self._guarded(self._text)),
            web.get("/-/ready", self._guarded(self._text)),
            web.get("/api/v2/alerts", self._guarded(self._alerts)),
            web.post("/api/v2/alerts", self._guarded(self._receive)),
            web.get("/api/v2/alerts/groups", self._guarded(self._groups)),
            web.get("/api/v2/status", self._guarded(self._status)),
            web.get("/api/v2/receivers", self._guarded(self._receivers)),
            web.get("/api/v2/silences", self._guarded(self._silences)),
            web.post("/api/v2/silences", self._guarded(self._silence)),
            web.get("/api/v2/silence/{id}", self._guarded(self._one_silence)),
            web.delete("/api/v2/silence/{id}", self._guarded(self._expire)),
        ]

    async def start(self) -> None:
        await super().start()
        if self._task is None:
            self._task = lasting(self._dispatch())

    async def stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            await cancel(task)
        await super().stop()

    def _guarded(self, handler: Handler) -> Handler:
        """Bad requests are 400 with Alertmanager's quoted text; what was set answers first."""
        from aiohttp import web

        async def answer(request: web.Request) -> web.Response:
            if broken := await self.misbehaving():
                return broken
            try:
                return await handler(request)
            except (ValueError, TypeError, KeyError, re.error) as error:
                return web.json_response(f"bad request: {error}", status=400)

        return answer

    async def _text(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text="OK")

    # alerts

    async def _receive(self, request: web.Request) -> web.Response:
        from aiohttp import web

        now = time.time()
        alerts = [_held(one, now) for one in await request.json()]
        self.manager.receive(alerts)
        return web.json_response({})

    async def _alerts(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response([self._shown(one) for one in self._wanted(request)])

    async def _groups(self, request: web.Request) -> web.Response:
        from aiohttp import web

        wanted = self._wanted(request)
        return web.json_response(
            [
                {
                    "labels": group.labels,
                    "receiver": {"name": self._receiver_of(group.labels)},
                    "alerts": [self._shown(one) for one in group.alerts.values() if one in wanted],
                }
                for group in self.manager.groups()
                if any(one in wanted for one in group.alerts.values())
            ]
        )

    def _wanted(self, request: web.Request) -> list[Held]:
        """The alerts that the query's `filter`, `active` and `silenced` let through."""
        filters = [matcher(text) for text in request.query.getall("filter", [])]
        active = request.query.get("active", "true") == "true"
        silenced = request.query.get("silenced", "true") == "true"
        return [
            alert
            for alert in self.manager.alerts()
            if all(one.takes(alert.labels) for one in filters)
            and (silenced if self.manager.silenced_by(alert) else active)
        ]

    def _receiver_of(self, labels: Labels) -> str:
        routed = self.manager.receivers and labels.get("alertname") not in UNROUTED
        return "webhook" if routed else "null"

    def _shown(self, alert: Held) -> dict[str, Any]:
        silenced = self.manager.silenced_by(alert)
        return {
            "labels": alert.labels,
            "annotations": alert.annotations,
            "startsAt": stamp(alert.starts_at),
            "endsAt": stamp(alert.ends_at),
            "updatedAt": stamp(alert.updated_at),
            "fingerprint": alert.fingerprint,
            "generatorURL": alert.generator,
            "receivers": [{"name": self._receiver_of(alert.labels)}],
            "status": {
                "state": "suppressed" if silenced else "active",
                "silencedBy": silenced,
                "inhibitedBy": [],
            },
        }

    async def _receivers(self, _: web.Request) -> web.Response:
        from aiohttp import web

        names = ["null", *(["webhook"] if self.manager.receivers else [])]
        return web.json_response([{"name": name} for name in names])

    async def _status(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response(
            {
                "cluster": {"status": "disabled", "peers": []},
                "config": {"original": configuration(self.manager.receivers)},
                "uptime": stamp(self._began),
                "versionInfo": {
                    "version": VERSION,
                    "revision": "practice",
                    "branch": "",
                    "buildUser": "",
                    "buildDate": "",
                    "goVersion": "",
                },
            }
        )

    # silences

    async def _silences(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response([_silence_shown(one) for one in self.manager.silences.values()])

    async def _silence(self, request: web.Request) -> web.Response:
        from aiohttp import web

        body = await request.json()
        if lacking := _lacking(body):
            return web.json_response(lacking, status=422)
        given = _silence(body, time.time())
        try:
            return web.json_response({"silenceID": self.manager.silence(given)})
        except KeyError:
            return web.json_response(f"silence {given.id} not found", status=404)

    async def _one_silence(self, request: web.Request) -> web.Response:
        from aiohttp import web

        known = self.manager.silences.get(request.match_info["id"])
        if known is None:
            return web.Response(status=404)
        return web.json_response(_silence_shown(known))

    async def _expire(self, request: web.Request) -> web.Response:
        from aiohttp import web

        if request.match_info["id"] not in self.manager.silences:
            return web.json_response("silence not found", status=500)  # so does 0.25
        self.manager.expire(request.match_info["id"])
        return web.Response()

    # webhooks

    async def _dispatch(self) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as sends:
            busy: set[tuple[str, str]] = set()
            while True:
                for notice in self.manager.due():
                    if notice.key not in busy:  # else the last one is still being tried
                        busy.add(notice.key)
                        sends.create_task(_send(session, notice, busy))
                await asyncio.sleep(_TICK_SECONDS)


async def _send(session: ClientSession, notice: Notice, busy: set[tuple[str, str]]) -> None:
    """One at a time for a receiver and a group."""
    try:
        await deliver(session, notice)
    finally:
        busy.discard(notice.key)


async def deliver(session: ClientSession, notice: Notice) -> None:
    """POST a notice; 5xx and network errors are tried again for a while, anything else is not."""
    import aiohttp

    pause = 0.2
    for _ in range(_RETRIES):
        try:
            async with session.post(notice.url, json=notice.body) as answer:
                if answer.status // 100 == 2:
                    notice.sent()
                    return
                if answer.status < 500:
                    _LOG.warning("webhook refused a notification: status %d", answer.status)
                    return
        except (aiohttp.ClientError, TimeoutError) as error:
            _LOG.info("webhook does not answer: %s", error)
        await asyncio.sleep(pause)
        pause *= 1.5


def configuration(receivers: list[str]) -> str:
    """alertmanager.yml, for the real one and as /api/v2/status shows it."""
    import yaml

    names = "|".join(UNROUTED)
    document = {
        "route": {
            "receiver": "webhook" if receivers else "null",
            "group_by": list(GROUP_BY),
            "group_wait": f"{GROUP_WAIT * 1000:.0f}ms",
            "group_interval": f"{GROUP_INTERVAL:.0f}s",
            "repeat_interval": f"{REPEAT_INTERVAL:.0f}s",
            "routes": [{"receiver": "null", "matchers": [f'alertname=~"{names}"']}],
        },
        "receivers": [
            {"name": "null"},
            {"name": "webhook", "webhook_configs": [{"url": url} for url in receivers]},
        ],
    }
    return str(yaml.safe_dump(document, sort_keys=False))


def _moment(text: str | None, otherwise: float) -> float:
    """Of RFC 3339; Go's zero time and none are `otherwise`."""
    if not text or text.startswith("0001-"):
        return otherwise
    # Go writes nine digits, Python reads at most six.
    short = re.sub(r"(\.\d{6})\d+", r"\1", text)
    return datetime.fromisoformat(short.replace("Z", "+00:00")).timestamp()


def _held(given: dict[str, Any], now: float) -> Held:
    labels = {name: str(value) for name, value in given["labels"].items() if value}
    if not labels:
        raise ValueError("at least one label pair required")
    starts = _moment(given.get("startsAt"), now)
    return Held(
        labels,
        dict(given.get("annotations", {})),
        starts,
        _moment(given.get("endsAt"), now + RESOLVE_SECONDS),
        now,
        given.get("generatorURL", ""),
    )


def _lacking(given: dict[str, Any]) -> dict[str, Any] | None:
    """What the schema of a silence misses first, as go-openapi says it."""
    for name in ("comment", "createdBy", "endsAt", "matchers", "startsAt"):
        if name not in given:
            return {"code": 602, "message": f"{name} in body is required"}
    if not given["matchers"]:
        return {"code": 612, "message": "matchers in body should have at least 1 items"}
    return None


def _silence(given: dict[str, Any], now: float) -> Silence:
    matchers = [
        Matcher(one["name"], one["value"], bool(one["isRegex"]), bool(one.get("isEqual", True)))
        for one in given["matchers"]
    ]
    for one in matchers:
        re.compile(one.value if one.regex else "")
    silence = Silence(
        given.get("id", ""),
        matchers,
        _moment(given["startsAt"], now),
        _moment(given["endsAt"], now),
        now,
        given["createdBy"],
        given["comment"],
    )
    if silence.ends_at <= max(now, silence.starts_at):
        raise ValueError("end time must not be in the past, nor before the start time")
    return silence


def _silence_shown(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "status": {"state": silence.state(time.time())},
        "matchers": [
            {"name": one.name, "value": one.value, "isRegex": one.regex, "isEqual": one.equal}
            for one in silence.matchers
        ],
        "startsAt": stamp(silence.starts_at),
        "endsAt": stamp(silence.ends_at),
        "updatedAt": stamp(silence.updated_at),
        "createdBy": silence.created_by,
        "comment": silence.comment,
    }
