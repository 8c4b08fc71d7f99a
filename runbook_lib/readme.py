"""The generated tables of README.md: the runbooks, and the configuration.

`python -m runbook_lib.readme` writes them anew between their markers; a test fails when they are
not what the notebooks and the configuration say.
"""

from __future__ import annotations

import re
from pathlib import Path

from runbook_lib import catalogue
from runbook_lib.config import Config, Section


def runbook_table() -> str:
    """Every runbook as a Markdown table, linked to its notebook."""
    lines = ["| runbook | section | severity | alerts |", "|---|---|---|---|"]
    for one in catalogue.runbooks():
        where = one.path.relative_to(catalogue.folder()).as_posix()
        alerts = ", ".join(f"`{alert}`" for alert in one.alerts) or "none"
        link = f"[{one.title}](notebooks/{where})<br>`{one.id}`"
        lines.append(f"| {link} | {one.section} | {one.severity} | {alerts} |")
    return "\n".join(lines)


def configuration_table() -> str:
    """Every name of runbook.toml with its default as a Markdown table."""
    lines = ["| name | default | environment variable |", "|---|---|---|"]
    for section, field in Config.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, Section)
        for name, value in kind().model_dump(mode="json").items():
            shown = ", ".join(value) if isinstance(value, list) else value
            variable = f"RUNBOOK_{section}__{name}".upper()
            lines.append(f"| `{section}.{name}` | {f'`{shown}`' if shown else ''} | `{variable}` |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """The text with both tables as they are now, between their markers."""
    for name, table in {
        "runbooks": runbook_table(),
        "configuration": configuration_table(),
    }.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = pattern.sub(lambda _, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    readme = Path(__file__).parent.parent / "README.md"
    readme.write_text(filled(readme.read_text()))
