"""Files of scenarios that are made for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

WHOLE: dict[str, Any] = {
    "title": "Nothing much",
    "kind": "fault",
    "break": [{"postgres.leak": {"application": "platform-api", "sessions": 3}}],
    "symptom": [{"sql": {"run": "SELECT 1", "find": "[0][0]", "is": 1}}],
    "finds": {"outcome": "cause found", "cause": "rds-connection-leak", "about": "platform-api"},
    "never_blames": ["rds-slow-queries"],
    "repair": {"by": "kubectl rollout restart", "steps": [{"postgres.heal": {}}]},
    "healed": [{"sql": {"run": "SELECT 1"}}],
}


def written(folder: Path, **changes: Any) -> Path:
    """A file with a whole scenario but for these changes; None leaves a key out."""
    given = {name: one for name, one in (WHOLE | changes).items() if one is not None}
    path = folder / "made" / "up.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(given))
    return path
