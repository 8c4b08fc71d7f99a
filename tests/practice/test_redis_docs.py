"""The document of the data systems names their verbs, all of them, with their arguments."""

from __future__ import annotations

from pathlib import Path

from practice.documented import documented, offered

from runbook_lib.practice.postgres.system import Database
from runbook_lib.practice.redis.system import OnlineStore


def test_document_names_the_verbs(tmp_path: Path) -> None:
    page = "practice-data.md"
    assert documented(page, "Verbs of Postgres") == offered(Database(tmp_path).verbs())
    assert documented(page, "Verbs of Redis") == offered(OnlineStore(tmp_path).verbs())
