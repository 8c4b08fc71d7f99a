"""Make one folder equal to another, in the time that their difference takes.

    python -I -S mirror.py SOURCE TARGET

Files of the same size and time of change count as equal. Run as a file, with nothing but the
standard library, so that it starts in a few milliseconds and can be guarded.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys


def mirror(source: str, target: str) -> None:
    """Make `target`, which need not exist, equal to `source`, with owners, modes and times."""
    with os.scandir(source) as entries:
        wanted = {entry.name: entry for entry in entries}
    for name in set(os.listdir(target) if os.path.isdir(target) else ()) - wanted.keys():  # noqa: PTH112, PTH208
        _remove(f"{target}/{name}")
    os.makedirs(target, exist_ok=True)  # noqa: PTH103
    _own(os.stat(source), source, target)  # noqa: PTH116
    for entry in wanted.values():
        copy = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            mirror(entry.path, copy)
        elif not _equal(entry.stat(follow_symlinks=False), copy):
            shutil.copyfile(entry.path, copy, follow_symlinks=False)
            _own(entry.stat(follow_symlinks=False), entry.path, copy)


def _equal(one: os.stat_result, path: str) -> bool:
    try:
        other = os.lstat(path)
    except FileNotFoundError:
        return False
    return (one.st_mode, one.st_size, one.st_mtime_ns) == (
        other.st_mode,
        other.st_size,
        other.st_mtime_ns,
    )


def _own(status: os.stat_result, source: str, target: str) -> None:
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    shutil.copystat(source, target, follow_symlinks=False)


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108


if __name__ == "__main__":
    mirror(sys.argv[1], sys.argv[2])
