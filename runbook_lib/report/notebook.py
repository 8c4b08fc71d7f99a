"""The executed notebook as safe HTML: prose, code, and only outputs of kinds that we know.

Which cell died, and which was never reached, is the journal's to say: Papermill leaves both looking
complete. Code cells are matched with the journal by their order.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from runbook_lib.display import plain
from runbook_lib.report.record import Report

# No <a>: a report opens nothing. Markdown's links are written out, others keep their words.
_TAGS = frozenset(
    """abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure
    h1 h2 h3 h4 h5 h6 hr i img kbd li mark ol p pre s section small span strong sub summary sup
    table tbody td tfoot th thead tr u ul""".split()  # noqa: SIM905  sixty quotes hide the words
)
_ATTRIBUTES = {
    "*": {"class"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
    "ol": {"start"},
}
_PICTURES = ("data:image/png;base64,", "data:image/svg+xml;base64,", "data:image/jpeg;base64,")
_TEXT_KEPT = 20_000


class Piece(NamedTuple):
    """A cell to show. kind: prose, code or parameters; html: prose or outputs, made safe.

    state: done, raised, died, never (not reached) or "" where the journal says nothing.
    """

    kind: str
    html: str
    source: str = ""
    state: str = ""
    label: str = ""


def pieces(path: Path, report: Report) -> list[Piece] | None:
    """The notebook's cells in order, or None where there is no notebook that can be read."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return list(_pieces(notebook["cells"], report))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Cut off in mid-write, or not a notebook at all: the journal alone tells the run.
        return None


def headings(path: Path) -> list[str]:
    """For each code cell the Markdown heading that it stands under; empty without a notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return list(_headings(cells))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # as in `pieces`


def _headings(cells: list[dict[str, Any]]) -> Iterator[str]:
    heading = ""
    for cell in _shown(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", source, re.MULTILINE)
            heading = found[-1] if found else heading
        elif cell["cell_type"] == "code":
            yield heading


def _shown(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The cells without the notes that Papermill adds to a failed notebook."""
    for cell in cells:
        if "papermill-error-cell-tag" not in cell.get("metadata", {}).get("tags", []):
            yield cell


def _pieces(cells: list[dict[str, Any]], report: Report) -> Iterator[Piece]:
    ran = iter(report.cells)
    for cell in _shown(cells):
        source = "".join(cell["source"])
        tags = cell.get("metadata", {}).get("tags", [])
        if cell["cell_type"] == "markdown":
            yield Piece("prose", markdown(source))
        elif cell["cell_type"] == "code":
            fate = next(ran, None)  # none in JupyterLab, where nobody journals cells
            kind = "parameters" if "injected-parameters" in tags else "code"
            outputs = "".join(map(_output, cell.get("outputs", [])))
            state, label = (fate.state, report.fate(fate)) if fate else ("", "Code")
            if source.strip():
                yield Piece(kind, outputs, source, state, label)


def markdown(source: str) -> str:
    """Markdown as safe HTML; headings two levels lower, as they stand under the report's own."""
    import mistune
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath  # 2 s

    class Renderer(IPythonRenderer):
        def heading(self, text: str, level: int, **attrs: Any) -> str:
            return super().heading(text, min(level + 2, 6))

        def link(self, text: str, url: str, title: str | None = None) -> str:
            shown = mistune.escape(url)
            return text if text == shown else f"{text} (<code>{shown}</code>)"

        def image(self, text: str, url: str, title: str | None = None) -> str:
            shown = super().image(text, url, title) if url.startswith(_PICTURES) else None
            return shown or self.link(text or "picture", url)

    convert = MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True))
    return safe(convert.render(source))


def safe(html: str) -> str:
    """HTML without anything that runs, loads, or leads elsewhere. Pictures only as `data:`."""
    import nh3  # only a report needs it

    def keep(tag: str, name: str, value: str) -> str | None:
        if (tag, name) == ("img", "src"):
            return value if value.startswith(_PICTURES) else None
        return value

    return nh3.clean(
        html, tags=set(_TAGS), attributes=_ATTRIBUTES, attribute_filter=keep, url_schemes={"data"}
    )


def _output(output: dict[str, Any]) -> str:
    match output["output_type"]:
        case "stream":
            return _text("".join(output["text"]))
        case "error":
            head = f"{output.get('ename', '')}: {output.get('evalue', '')}"
            return _text(head) + _details("Traceback", "\n".join(output.get("traceback", [])))
        case "display_data" | "execute_result":
            return _picture_or_text(output.get("data", {}), output.get("metadata", {}))
    return _left_out(output["output_type"])


def _picture_or_text(data: dict[str, Any], metadata: dict[str, Any]) -> str:
    """The first kind that the allow-list has."""
    if "text/html" in data:
        return f'<div class="rb-html">{safe("".join(data["text/html"]))}</div>'
    for media in ("image/svg+xml", "image/png"):
        if media in data:
            content = "".join(data[media])
            if media == "image/svg+xml":
                content = base64.b64encode(content.encode()).decode()
            alt = str(metadata.get(media, {}).get("alt") or metadata.get("alt") or "A chart")
            return _picture(media, "".join(content.split()), alt)
    if "text/plain" in data:
        return _text("".join(data["text/plain"]))
    return _left_out(", ".join(data))


def _picture(media: str, content: str, alt: str) -> str:
    from markupsafe import escape

    return safe(
        f'<figure class="rb-chart"><img src="data:{media};base64,{escape(content)}" '
        f'alt="{escape(plain(alt))}"></figure>'
    )


def _text(text: str) -> str:
    from markupsafe import escape

    text = plain(text)
    rest = len(text) - _TEXT_KEPT
    note = f"\n({rest} more characters left out)" if rest > 0 else ""
    return f"<pre class='rb-text'>{escape(text[:_TEXT_KEPT] + note)}</pre>" if text.strip() else ""


def _details(summary: str, text: str) -> str:
    body = _text(text)
    return f"<details><summary>{summary}</summary>{body}</details>" if body else ""


def _left_out(what: str) -> str:
    return _text(f"An output of type {what} is left out.")
