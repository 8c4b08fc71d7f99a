"""How findings look: status, order, times, and that nothing from outside is markup."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from page import Seen

from runbook_lib import display
from runbook_lib.model import Chart, Status, Table, Verdict, fail, ok, reach_verdict, unknown, warn

NOW = datetime(2026, 11, 22, 2, 58, 3, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m'\"<b>"
LEAK = fail(
    "application/backfill",
    "backfill holds 84 of 100 connections.",
    id="leak",
    hint="Restart it.",
    since=NOW - timedelta(minutes=14),
    sampled_at=NOW,
    command="psql -c 'select 1'",
    evidence={"limit": 100, "clients": ["10.0.3.17"]},
    explains=("refused",),
)
REFUSED = fail("postgres/mlflow", "Postgres refuses clients.", id="refused", sampled_at=NOW)


def test_failures_come_first_causes_before_symptoms_and_ok_is_compact() -> None:
    html = display.result_html(
        [ok("a/ok", "Fine."), warn("a/warn", "Look."), REFUSED, unknown("a/blind", "No."), LEAK]
    )
    order = ["application/backfill", "postgres/mlflow", "a/blind", "a/warn", "a/ok"]
    assert sorted(order, key=html.index) == order
    assert html.count('class="rb-finding rb-compact rb-ok"') == 1


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_a_word_a_colour_and_a_shape(status: Status) -> None:
    html = display.result_html([LEAK.model_copy(update={"status": status})])
    assert status.upper() in Seen(html).text
    assert f"rb-{status}" in html
    assert "rb-mark" in html
    assert f".rb .rb-{status} .rb-mark" in display.style()


def test_a_finding_shows_everything_that_it_carries() -> None:
    shown = " ".join(Seen(display.result_html([LEAK, REFUSED])).text.split())
    assert "backfill holds 84 of 100 connections." in shown
    assert "Next Restart it." in shown
    assert "since 02:44 UTC, 14 min before we looked; sampled 2026-11-22 02:58:03 UTC" in shown
    assert "psql -c 'select 1'" in shown
    assert 'limit 100 clients ["10.0.3.17"]' in shown
    assert "FAIL, symptom postgres/mlflow" in shown


def test_a_table_says_how_many_rows_were_left_out() -> None:
    table = Table(title="Nodes", columns=["node", "used"], rows=[["a", 0.123456]], left_out=7)
    shown = Seen(display.result_html([], [table])).text
    assert "7 more rows left out" in shown
    assert "0.123" in shown and "0.1234" not in shown


def test_a_chart_is_a_data_picture_with_words() -> None:
    chart = Chart(media="image/png", data="aGVsbG8=", alt="It rose.")
    (image,) = [a for t, a in Seen(display.result_html([], [], [chart])).tags if t == "img"]
    assert image == {"src": "data:image/png;base64,aGVsbG8=", "alt": "It rose."}


@pytest.mark.parametrize(("media", "data"), [("text/html", "aGk="), ("image/png", '"><script>')])
def test_a_chart_of_another_kind_is_only_its_words(media: str, data: str) -> None:
    html = display.result_html([], [], [Chart(media=media, data=data, alt="It rose.")])
    assert not [t for t, _ in Seen(html).tags if t in ("img", "script")]
    assert "It rose." in html


def test_whatever_comes_from_outside_is_inert_text() -> None:
    finding = fail(
        HOSTILE,
        HOSTILE,
        id=HOSTILE,
        hint=HOSTILE,
        command=HOSTILE,
        runbook=HOSTILE,
        evidence={HOSTILE: [HOSTILE]},
    )
    table = Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE], [{HOSTILE: HOSTILE}]])
    chart = Chart(media="image/png", data="aGk=", alt=HOSTILE, title=HOSTILE)
    html = display.result_html([finding], [table], [chart])
    html += display.verdict_html(reach_verdict([finding]))
    seen = Seen(html)
    assert "script" not in {tag for tag, _ in seen.tags}
    assert not [a for _, attrs in seen.tags for a in attrs if a.startswith("on")]
    assert {attrs["src"] for t, attrs in seen.tags if t == "img"} == {"data:image/png;base64,aGk="}
    assert "</script><img src=x onerror=alert(1)>" in seen.text
    assert "\x1b" not in html


def test_a_verdict_says_what_is_hit_since_when_and_what_to_do() -> None:
    shown = " ".join(Seen(display.verdict_html(reach_verdict([REFUSED, LEAK]))).text.split())
    assert shown == (
        "Cause found backfill holds 84 of 100 connections. "
        "Hit application/backfill, postgres/mlflow Since 02:44 UTC, 14 min before we looked "
        "Next Restart it. psql -c 'select 1'"
    )


def test_a_healthy_verdict_asks_for_nothing() -> None:
    shown = Seen(display.verdict_html(reach_verdict([ok("a", "Fine.")]))).text
    assert "Healthy" in shown
    assert "Next" not in shown


@pytest.mark.parametrize(
    ("finding", "label"), [(LEAK, "Hit"), (unknown("aws", "Refused."), "Not seen")]
)
def test_what_could_not_be_seen_is_not_called_hit(finding: object, label: str) -> None:
    verdict: Verdict = reach_verdict([finding])  # type: ignore[list-item]
    assert f" {label} " in Seen(display.verdict_html(verdict)).text


def test_plain_text_for_terminals_carries_no_escapes() -> None:
    text = display.result_text([ok("a", "Fine.", sampled_at=NOW), LEAK, fail(HOSTILE, "x\x07y")])
    assert text.splitlines()[:4] == [
        "FAIL    application/backfill: backfill holds 84 of 100 connections.",
        "        since 02:44 UTC, 14 min before we looked; sampled 2026-11-22 02:58:03 UTC",
        "        next: Restart it.",
        "        $ psql -c 'select 1'",
    ]
    assert text.splitlines()[-1] == "OK      a: Fine."
    assert "\x1b" not in text and "\x07" not in text
    assert display.result_text([]) == "No findings."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.42, "0.4 s"),
        (42, "42 s"),
        (14 * 60, "14 min"),
        (3599, "1 h"),
        (11100, "3 h 5 min"),
        (190000, "2 days 4 h"),
    ],
)
def test_spans_of_time_in_words(seconds: float, words: str) -> None:
    assert display.span(seconds) == words


def test_times_are_utc_whatever_zone_they_come_in() -> None:
    paris = datetime.fromisoformat("2026-11-22T00:30:00+01:00")
    assert display.clock(paris) == "2026-11-21 23:30 UTC"
    assert display.clock(paris.replace(tzinfo=None)) == "2026-11-22 00:30 UTC"
    assert display.clock(paris, beside=NOW) == "2026-11-21 23:30 UTC"


def test_the_style_touches_nothing_outside_its_class() -> None:
    css = display.style().removeprefix("<style>").removesuffix("</style>")
    selectors = [
        part.strip()
        for rule in css.split("}")
        if "{" in rule
        for part in rule.split("{")[0].split("*/")[-1].split(",")
    ]
    assert [s for s in selectors if ".rb" not in s] == []


def test_importing_it_stays_cheap() -> None:
    heavy = "nbconvert nh3 mistune pandas matplotlib kubernetes boto3 papermill"
    code = (
        "import sys, runbook_lib.display, runbook_lib.report\n"
        f"print(*set('{heavy}'.split()) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
