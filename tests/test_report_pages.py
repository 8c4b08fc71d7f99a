"""The pages of a report: readable, whole without a network, and inert whatever a run met."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from page import Seen

from runbook_lib.journal import Journal
from runbook_lib.model import Chart, Finding, Table, fail, ok, reach_verdict
from runbook_lib.report import write, write_index
from runbook_lib.report.notebook import markdown, safe

HOSTILE = "</script><img src=x onerror=alert(1)><style>*{display:none}</style>"
NOW = datetime(2026, 11, 22, 2, 58, 3, tzinfo=UTC)
Cell = dict[str, Any]


def assert_inert(html: str) -> Seen:
    """Nothing runs, nothing is loaded, nothing leads out of this folder."""
    seen = Seen(html)
    allowed = {"src", "alt", "width", "height", "class"}
    for tag, attrs in seen.tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "form", "svg", "base")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        if tag == "img":
            assert set(attrs) <= allowed
            assert (attrs.get("src") or "data:image/").startswith("data:image/")
        href = attrs.get("href") or ""
        assert re.fullmatch(r"([\w%.-]+/report\.html)?", href)
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "url(" not in styles and "@import" not in styles
    assert "display:none" not in styles
    return seen


def code(source: str, *outputs: Cell, tags: tuple[str, ...] = ()) -> Cell:
    metadata = {"tags": list(tags)}
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": metadata}


def prose(source: str) -> Cell:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def shown(metadata: dict[str, Any] | None = None, **data: str) -> Cell:
    bundle = {name.replace("__", "/").replace("_", "+"): value for name, value in data.items()}
    return {"output_type": "display_data", "data": bundle, "metadata": metadata or {}}


def folder_of(
    outputs: Path,
    findings: list[Finding],
    cells: list[Cell] | None = None,
    *,
    name: str = "20261122T025803Z-crash-1",
    ran: int = 99,
    tables: list[Table] | None = None,
    charts: list[Chart] | None = None,
    title: str = "Crash",
) -> Path:
    """A run that completed, or that died in its last started cell if not all of them ran."""
    folder = outputs / name
    folder.mkdir(parents=True)
    journal = Journal(folder)
    given = {"namespace": "models", HOSTILE: HOSTILE}
    journal.append("run-started", runbook="crash", title=title, severity="P1", parameters=given)
    total = sum(c["cell_type"] == "code" for c in cells or [])
    journal.append("cells", total=total)
    for index in range(min(ran, total)):
        journal.append("cell-started", index=index, heading=HOSTILE)
        if index < ran - 1:
            journal.append("cell-finished", index=index, seconds=1.0)
    error = {"kind": "timeout", "message": HOSTILE, "next": ""}
    journal.append("probe", probe="pods", seconds=8.0, error=error, sampled_at=NOW)
    journal.append(
        "check",
        check="crash",
        question="Do pods start?",
        findings=[f.model_dump(mode="json") for f in findings],
        tables=[t.model_dump(mode="json") for t in tables or []],
        charts=[c.model_dump(mode="json") for c in charts or []],
    )
    if ran > total:
        journal.append("verdict", verdict=reach_verdict(findings).model_dump(mode="json"))
        journal.append("run-ended", ending="completed", reason="")
    else:
        journal.append("run-ended", ending="kernel-died", reason=HOSTILE)
    if cells is not None:
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
        (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    return folder


EVIL = fail(
    HOSTILE, HOSTILE, id=HOSTILE, hint=HOSTILE, command=HOSTILE, evidence={HOSTILE: HOSTILE}
)
EVIL_CELLS = [
    prose(
        f"# Hi {HOSTILE}\n\n[x](javascript:alert(1)) [y](https://evil.example/y) "
        "![i](https://evil.example/i.png) <a href='https://evil.example'>z</a> "
        f"<svg onload=alert(1)></svg>\n\n```mermaid\n{HOSTILE}\n```"
    ),
    code(
        f"print('{HOSTILE}')",
        shown(
            text__html=HOSTILE
            + "<img src='https://evil.example/a.png'><img src='data:text/html,x'>"
            "<iframe src=x></iframe><a href='data:text/html,x'>w</a>"
            "<div style='position:fixed' onclick=x>t</div>"
        ),
        {"output_type": "stream", "name": "stdout", "text": ["\x1b[31m", HOSTILE]},
        shown(application__javascript="alert(1)"),
        shown({"image/png": {"alt": HOSTILE}}, image__png='"><script>alert(1)</script>'),
        shown(image__svg_xml="<svg onload='alert(1)'/>"),
        {
            "output_type": "error",
            "ename": HOSTILE,
            "evalue": HOSTILE,
            "traceback": ["\x1b[31m" + HOSTILE],
        },
    ),
    code(f"never('{HOSTILE}')"),
]


@pytest.mark.parametrize("cells", [EVIL_CELLS, None])
def test_hostile_text_is_inert_everywhere(tmp_path: Path, cells: list[Cell] | None) -> None:
    table = Table(title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]])
    chart = Chart(media="image/svg+xml", data='" onerror="alert(1)', alt=HOSTILE, title=HOSTILE)
    folder = folder_of(
        tmp_path, [EVIL], cells, ran=1, tables=[table], charts=[chart], title=HOSTILE
    )
    write(folder)
    html = (folder / "report.html").read_text()
    seen = assert_inert(html)
    assert seen.text.count("</script><img src=x onerror=alert(1)>") > 5
    assert "\x1b" not in html
    assert_inert(write_index(tmp_path).read_text())


def test_markdown_takes_hostile_text_literally(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [EVIL.model_copy(update={"summary": f"a|b `c` {HOSTILE}\n# x"})])
    write(folder)
    text = (folder / "report.md").read_text()
    outside = re.sub(r"^(`{3,})\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert r"a\|b \`c\` &lt;/script&gt;" in outside
    assert "\n# x" not in outside


def test_a_command_cannot_leave_its_fence(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [EVIL.model_copy(update={"command": "x\n```\n<b>"})])
    write(folder)
    assert "````\nx\n```\n<b>\n````" in (folder / "report.md").read_text()


def test_the_page_is_whole_and_forbids_everything_else(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [fail("pod/a", "A key is missing.", sampled_at=NOW)], [])
    write(folder)
    html = (folder / "report.html").read_text()
    seen = assert_inert(html)
    assert not re.search(r"https?://", html)
    metas = [attrs for tag, attrs in seen.tags if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    before = seen.text[: seen.text.index("Findings \n")]
    assert "Cause found" in before and "pod/a" in before and "Ran 20" in before


def test_dead_and_unreached_cells_are_marked_by_the_journal(tmp_path: Path) -> None:
    cells = [prose("## One"), code("a"), prose("## Two"), code("b"), prose("## Three"), code("c")]
    for cell in cells:
        cell["metadata"]["papermill"] = {"status": "completed", "exception": False}
    folder = folder_of(tmp_path, [ok("x", "Fine.")], cells, ran=2)
    write(folder)
    html = (folder / "report.html").read_text()
    states = re.findall(r'class="rb-cell rb-cell-(\w+)"', html)
    assert states == ["done", "died", "never"]
    text = Seen(html).text
    assert "The kernel died in this cell" in text
    assert "Cell 3 of 3, “Three”: never reached." in text
    assert "Fine." in text


def test_outputs_of_known_kinds_are_shown(tmp_path: Path) -> None:
    cells = [
        code("namespace = 'x'", tags=("injected-parameters",)),
        code(
            "show()",
            shown(text__html="<b class='rb-word'>bold</b>", text__plain="second choice"),
            shown({"image/png": {"alt": "It rose."}}, image__png="aGk=\n"),
            shown(image__svg_xml="<svg/>"),
            shown(text__plain="x" * 20_001),
            {"output_type": "stream", "name": "stderr", "text": "\x1b[31mred\x1b[0m\n"},
            {
                "output_type": "error",
                "ename": "KeyError",
                "evalue": "'a'",
                "traceback": ["line 1"],
            },
        ),
        code("   "),
    ]
    folder = folder_of(tmp_path, [ok("x", "Fine.")], cells)
    write(folder)
    html = (folder / "report.html").read_text()
    seen = assert_inert(html)
    assert '<b class="rb-word">bold</b>' in html and "second choice" not in html
    pictures = [attrs for tag, attrs in seen.tags if tag == "img"]
    assert {"src": "data:image/png;base64,aGk=", "alt": "It rose."} in pictures
    assert {"src": "data:image/svg+xml;base64,PHN2Zy8+", "alt": "A chart"} in pictures
    assert "(1 more characters left out)" in seen.text
    assert "red\n" in seen.text and "KeyError: 'a'" in seen.text and "line 1" in seen.text
    assert "namespace = 'x'" not in html
    assert '<th scope="row">namespace</th><td>models</td>' in html


@pytest.mark.parametrize("content", ['{"cells": [{"cell_', "[]", '{"cells": [5]}', '{"cells": 1}'])
def test_without_a_readable_notebook_the_journal_tells_it(tmp_path: Path, content: str) -> None:
    table = Table(columns=["pod"], rows=[["api-1"]])
    chart = Chart(media="image/png", data="aGk=", alt="It rose.")
    folder = folder_of(tmp_path, [ok("x", "Fine.")], tables=[table], charts=[chart])
    (folder / "notebook.ipynb").write_text(content)
    write(folder)
    html = (folder / "report.html").read_text()
    assert "told from its journal alone" in html
    assert "Do pods start?" in html and "api-1" in html and "It rose." in html


def test_links_and_headings_of_prose() -> None:
    html = markdown("# Top\n\nSee [the guide](https://example.org/a?b=1&c=2), <br> https://x.org.")
    assert "<h3>Top</h3>" in html
    assert "the guide (<code>https://example.org/a?b=1&amp;c=2</code>)" in html
    assert "<br>" in html and "<a" not in html


def test_only_data_pictures_stay() -> None:
    kept = '<img src="data:image/png;base64,aGk=" alt="x">'
    assert safe(kept) == kept
    assert safe('<img src="//x.org/a.png" alt="x">') == '<img alt="x">'
    assert safe('<img src="data:text/html,a" alt="x">') == '<img alt="x">'


def test_the_index_lists_newest_first_and_what_cannot_be_read(tmp_path: Path) -> None:
    broken = fail("node/a", "The disk is full.", since=NOW, sampled_at=NOW)
    write(folder_of(tmp_path, [broken], name="20261122T010000Z-old", title="Old & first"))
    folder_of(tmp_path, [ok("x", "Fine.")], name="20261122T020000Z-new", title="New")
    (tmp_path / "20261122T030000Z-none").mkdir()
    (tmp_path / "20261122T040000Z-odd" / "journal.jsonl").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    html = write_index(tmp_path).read_text()
    seen = assert_inert(html)
    order = ["20261122T040000Z-odd", "There is no journal", "New", "Old & first"]
    assert sorted(order, key=seen.text.index) == order
    assert "Its journal cannot be read" in seen.text
    assert "The disk is full." in seen.text and "Since 2026-11-22 02:58 UTC" in seen.text
    assert [a["href"] for t, a in seen.tags if t == "a"] == ["20261122T010000Z-old/report.html"]
    assert "(no report written)" in seen.text


def test_an_index_of_nothing(tmp_path: Path) -> None:
    assert "No run yet" in write_index(tmp_path).read_text()


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_phone_never_scrolls_sideways(tmp_path: Path) -> None:
    wide = Table(title="W", columns=[f"column {n}" for n in range(30)], rows=[["x" * 200] * 30])
    evidence = {"k" * 90: "v" * 900}
    finding = fail("pod/" + "a" * 300, "b" * 300, id="c" * 80, command="d" * 400, evidence=evidence)
    folder = folder_of(tmp_path, [finding, EVIL], EVIL_CELLS, ran=1, tables=[wide])
    write(folder)
    write(folder_of(tmp_path, [finding], None, name="2", tables=[wide]))
    write_index(tmp_path)
    frames = "".join(
        f"<iframe src='{page}' style='width:360px;height:640px' "
        "onload='o.textContent += this.contentDocument.documentElement.scrollWidth - "
        'this.contentDocument.documentElement.clientWidth + ";"\'></iframe>'
        for page in (f"{folder.name}/report.html", "2/report.html", "index.html")
    )
    (tmp_path / "phone.html").write_text(f"<!doctype html><p id=o></p>{frames}")
    dom = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            (tmp_path / "phone.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert '<p id="o">0;0;0;</p>' in dom
