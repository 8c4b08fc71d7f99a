"""Keep a folder in one archive, and put it back in the time that what has changed takes.

    python -I -S snapshot.py save|restore FOLDER ARCHIVE

Files of the same size and time of change count as unchanged. Run as a file, with nothing but the
standard library, so that it starts in a few milliseconds and can be guarded.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

# Times go through floating point on their way into the archive and back.
SAME_SECONDS = 1e-5


def save(folder: str, archive: str) -> None:
    """Write all of `folder` into `archive`, with owners, modes and times."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, arcname=".")


def restore(folder: str, archive: str) -> None:
    """Make `folder` what it was when it was saved."""
    with tarfile.open(archive) as tar:
        members = {os.path.normpath(member.name): member for member in tar}
        for path in _all_below(folder):
            if path not in members:
                _remove(Path(folder, path))
        # It is our own archive: links and owners are taken as they are.
        tar.extraction_filter = lambda member, _: member
        for path, member in members.items():
            if not _unchanged(f"{folder}/{path}", member):
                tar.extract(member, folder, numeric_owner=True)


def _all_below(folder: str) -> list[str]:
    """All paths below `folder`, relative to it."""
    found = []
    for where, folders, files in os.walk(folder):
        found += [os.path.relpath(f"{where}/{name}", folder) for name in (*folders, *files)]
    return found


def _unchanged(path: str, member: tarfile.TarInfo) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if member.isdir():
        return True
    return (
        member.isfile()
        and status.st_size == member.size
        and abs(status.st_mtime - member.mtime) < SAME_SECONDS
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        # It may have been below a folder that is gone already.
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    {"save": save, "restore": restore}[sys.argv[1]](*sys.argv[2:])
