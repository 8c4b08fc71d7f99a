"""README.md says what the notebooks, the configuration and the command line say."""

from __future__ import annotations

from pathlib import Path

from notebook import ROOT

from runbook_lib import readme


def test_its_tables_are_generated() -> None:
    """`python -m runbook_lib.readme` would change nothing."""
    text = (ROOT / "README.md").read_text()
    assert "| `limits.disk_percent` | `85.0` |" in text
    assert readme.filled(text) == text


def test_every_make_target_and_file_that_it_names_exists() -> None:
    """No command or link of README or CONTRIBUTING leads nowhere."""
    import re

    makefile = (ROOT / "Makefile").read_text()
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        for target in re.findall(r"`make ([a-z-]+)", text) + re.findall(r"\$ make ([a-z-]+)", text):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert Path(ROOT, link).exists(), link
