"""Judges of the health check's three points outside Kubernetes: alerts, endpoints, database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.checks.database import usable_slots
from runbook_lib.checks.health_pods import ENDPOINTS, SHOWN, span
from runbook_lib.checks.nodes_common import moment
from runbook_lib.core import check
from runbook_lib.model import Finding, Status, fail, ok, unknown, warn
from runbook_lib.sources import http, prometheus, services

WATCHDOG = "Watchdog"
ALWAYS_FIRING = (WATCHDOG, "InfoInhibitor")
EXTERNAL = "not-reachable-externally"
EXHAUSTED = "rds-connection-exhaustion"
_FREE_SLOTS = (
    "runbook run rds-connection-exhaustion tells who holds the slots. Raising max_connections "
    "only moves the wall."
)
# What only a machine that was reached can say. Silence may be our own network's.
_TURNED_AWAY = ("refused", "starting up", "shutting down", "recovery mode", "not accepting")


def _firing(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Firing alerts that mean something, critical and oldest first."""
    kept = [a for a in alerts if a["state"] == "firing" and a["name"] not in ALWAYS_FIRING]
    return sorted(kept, key=lambda a: (a["severity"] != "critical", a["since"]))


def _alert_rows(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "alert": a["name"],
            "severity": a["severity"] or "none given",
            "since": f"{a['since'][:16]}Z",
            "labels": ", ".join(f"{k}={v}" for k, v in a["labels"].items()),
        }
        for a in _firing(alerts)
    ]


@check("alerts-firing", probe=prometheus.alerts, symptom=True, rows=_alert_rows)
def alerts_quiet(alerts: list[dict[str, Any]]) -> Iterable[Finding]:
    """No alert fires but those that always do.

    Watchdog and InfoInhibitor fire on a healthy platform too. An alert says that it hurts.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in _firing(alerts):
        groups[one["name"], one["severity"]].append(one)
    if not any(a["name"] == WATCHDOG and a["state"] == "firing" for a in alerts):
        silent = unknown(
            "alerts",
            f"{WATCHDOG} does not fire, though kube-prometheus always lets it: the rules are not"
            " loaded, or this is another Prometheus.",
            hint="Look at the address of Prometheus, and at its /rules.",
        )
        return [silent, *(_alert(*key, group) for key, group in groups.items())]
    if not groups:
        left_out = sum(a["name"] in ALWAYS_FIRING for a in alerts)
        return [ok("alerts", "No alert fires.", evidence={"always firing, left out": left_out})]
    return [_alert(name, severity, group) for (name, severity), group in groups.items()]


def _alert(name: str, severity: str, group: list[dict[str, Any]]) -> Finding:
    first = group[0]
    often = f" {len(group)} times" if group[1:] else ""
    said = f": {first['summary']}" if first["summary"] else "."
    own = f"Its own runbook: {first['runbook_url']}" if first["runbook_url"] else ""
    return Finding(
        status=Status.FAIL if severity == "critical" else Status.WARN,
        about=f"alert/{name}",
        summary=f"{name} ({severity or 'no severity'}) fires{often}{said}",
        hint=own or "It says that it hurts, not why: look for the cause among the other points.",
        evidence={"labels": [one["labels"] for one in group[:SHOWN]]},
        since=moment(first["since"]),
    )


def _endpoint_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [
        {
            "endpoint": one["url"],
            "status": one["status"] or one["kind"],
            "seconds": one["seconds"],
            "TLS until": (one["tls"] or {}).get("expires", "no TLS")[:10],
            "tried from": one["tried_from"],
        }
        for one in found
    ]
    return sorted(rows, key=lambda row: row["status"] == 200)


@check(ENDPOINTS, probe=http.endpoints, rows=_endpoint_rows)
def endpoints_answer(
    found: list[dict[str, Any]], now: datetime, slow_seconds: float = 2, expiry_days: int = 14
) -> Iterator[Finding]:
    """Every external endpoint answers exactly 200, over sound TLS, in time.

    It is tried from the machine that runs this, which may sit elsewhere than the users.
    """
    for one in found:
        yield _endpoint(one, now, slow_seconds, expiry_days)


def _endpoint(one: dict[str, Any], now: datetime, slow_seconds: float, expiry_days: int) -> Finding:
    url, about, where = one["url"], f"endpoint/{one['name']}", f"tried from {one['tried_from']}"
    runbook = {"mlflow": "mlflow-ui-not-loading", "api": "api-500-errors"}.get(one["name"], "")
    evidence = {k: v for k, v in one.items() if v not in ("", None)}
    command = f"curl -sv -o /dev/null {url}"
    if one["kind"] in ("offline", "bad-answer"):
        return unknown(
            about,
            f"{url} could not be asked ({where}): {one['reason']}.",
            hint="Mend this machine's network or resolver, or run it from another one.",
            evidence=evidence,
            command=command,
        )
    if one["status"] is None:
        return fail(
            about,
            f"{url} gives no answer ({where}): {one['reason']}.",
            hint=_NO_ANSWER.get(one["kind"], _NO_ANSWER["unreachable"]),
            evidence=evidence,
            command=command,
            # A name or a certificate does not break because pods do.
            own=one["kind"] in ("dns", "tls"),
            runbook=EXTERNAL,
        )
    if one["status"] != 200:
        target = f", redirecting to {one['redirect']}" if one["redirect"] else ""
        said = f": {one['said']}" if one["said"] and not target else ""
        return fail(
            about,
            f"{url} answers {one['status']}, not 200{target} ({where}){said}",
            hint=_meaning(one["status"]),
            evidence=evidence,
            command=command,
            own=one["status"] < 500,
            runbook=runbook if one["status"] >= 500 or one["status"] == 403 else EXTERNAL,
        )
    expires = moment((one["tls"] or {}).get("expires"))
    if expires and expires - now < timedelta(days=expiry_days):
        left = span(expires - now)
        return warn(
            about,
            f"{url} answers 200, but its certificate ends in {left}.",
            hint="Renew it now: look at its validation record and its renewal status.",
            evidence=evidence,
            command=command,
        )
    if one["seconds"] > slow_seconds:
        return warn(
            about,
            f"{url} answers 200, but takes {one['seconds']:.1f} s ({where}).",
            hint="Compare with the same request from a pod: is it the path or the service?",
            evidence=evidence,
            command=command,
        )
    sound = f"{one['tls']['version']} is sound" if one["tls"] else "plain HTTP"
    return ok(
        about,
        f"{url} answers 200 in {one['seconds'] * 1000:.0f} ms, {sound} ({where}).",
        evidence=evidence,
        command=command,
    )


_NO_ANSWER = {
    "dns": "Ask another resolver (dig NAME @1.1.1.1) before you touch the record.",
    "tls": "Look at the certificate that is served: openssl s_client -connect HOST:443 "
    "-servername HOST. Never switch verification off to get by.",
    "refused": "Nothing listens there: look at the load balancer and its listener.",
    "timeout": "Silence is a security group, a route, or a service that hangs: try from a pod.",
    "unreachable": "Try from another network, then from a pod, to see whose path is broken.",
}


def _meaning(status: int) -> str:
    if status in (502, 503, 504):
        return "The load balancer answers, the service behind it does not: see its endpoints."
    if status >= 500:
        return "The service itself fails: read its log for this time before restarting it."
    if status in (401, 403):
        return "Reachable, but something in front refuses: a login, or MLflow's allowed hosts."
    return "Compare the address with the ingress rules; a path or host that nobody serves?"


@check("database-unreachable", probe=services.database)
def database_reachable(answer: dict[str, Any], connections_percent: float = 80) -> Finding:
    """The platform's database lets a client in and answers.

    An open port is not enough: a server without a free slot refuses every new client.
    """
    where = f"tried from {answer['tried_from']}" if answer.get("tried_from") else "tried from here"
    if answer["reached"]:
        return _slots(answer, connections_percent, where)
    evidence = {"kind": answer["kind"]}
    if answer["kind"] == "refused":
        return fail(
            "database",
            f"{answer['reason']} ({where})",
            hint=_FREE_SLOTS,
            evidence=evidence,
            runbook=EXHAUSTED,
        )
    if any(sign in answer["reason"] for sign in _TURNED_AWAY):
        return fail(
            "database",
            f"Postgres lets nobody in ({where}): {answer['reason']}",
            hint="Is the instance stopped, or restarting? See its status and its last events: "
            "aws rds describe-db-instances; aws rds describe-events. Do not reboot it yet.",
            evidence=evidence,
            runbook="mlflow-ui-not-loading",
        )
    return unknown(
        "database",
        f"From this machine Postgres cannot be reached ({where}): {answer['reason']}",
        hint="A laptop outside the VPC cannot reach it while pods can: try from a pod, then look "
        "at its security group.",
        evidence=evidence,
    )


def _slots(answer: dict[str, Any], connections_percent: float, where: str) -> Finding:
    """We may have come in by a reserved slot, which says nothing of ordinary clients."""
    let_in = f"Postgres {answer['version']} lets a client in ({where})"
    if not answer["slots"]:
        return unknown(
            "database",
            f"{let_in}, but whether ordinary ones find a slot is unseen: {answer['reason']}",
            hint="GRANT pg_monitor TO our role, to count the slots that are taken.",
        )
    used, usable = answer["used"], usable_slots(answer)
    evidence = {"used": used, "usable": usable, **answer["slots"]}
    if used >= usable:
        return fail(
            "database",
            f"Postgres refuses ordinary clients: all {usable} slots that they may use are taken"
            f" ({where}).",
            hint=_FREE_SLOTS,
            evidence=evidence,
            runbook=EXHAUSTED,
        )
    if used >= usable * connections_percent / 100:
        return warn(
            "database",
            f"{let_in}, but {used} of {usable} usable slots are taken.",
            hint=_FREE_SLOTS,
            evidence=evidence,
        )
    return ok("database", f"{let_in}, and {used} of {usable} usable slots are taken.")
