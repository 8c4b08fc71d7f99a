"""What the last lines of a crashed container's log say, in the words that programs really use."""

from __future__ import annotations

import re
from dataclasses import dataclass

NEAR = 25  # lines before the end in which a host may be named
SHOWN = 160  # characters of a line in a sentence

_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = re.compile(
    r"During handling of the above exception|The above exception was the direct cause"
)
# Lines that follow an error and add nothing to it.
_AFTERMATH = re.compile(
    r"(?i)application startup failed|background on this error|is the server running|for further "
    r"information|failed to boot|shutting down|exiting\b|npm err|exit(ed)?( with)? (code|status)"
    r"|waiting for application|stopping|reason: worker|parent process"
)
_ERROR = re.compile(
    r"(?i)^\s*[\w.]*(exit|fault)\b|(error|exception)\b|\b(fatal|panic|critical|failed|"
    r"failure|cannot|can't|could not|couldn't|unable|denied|refused|no such|not found|not set|"
    r"missing|required|undefined|unbound|invalid|timed out|timeout|"
    r"no space|resolve|econn\w+|enotfound)\b"
)
_FRAME = re.compile(r'^\s+(File "|at |\^|~|raise |return |await |\.\.\. )|^\s{4,}\S')

_HOW = (
    (
        "refuses connections",
        re.compile(
            r"(?i)connection refused|\beconnrefused|connect call failed|connection to \S+ refused"
        ),
    ),
    (
        "cannot be resolved by DNS",
        re.compile(
            r"(?i)name or service not known|temporary failure in name resolution|no such host|"
            r"could not (translate|resolve) host|\benotfound|\beai_again|unknownhostexception|"
            r"nodename nor servname|bad address|nxdomain|name does not resolve|"
            r"no address associated"
        ),
    ),
    (
        "does not answer in time",
        re.compile(
            r"(?i)connection (attempt )?timed out|timeout expired|connect ?timeout|i/o timeout|"
            r"\betimedout|no route to host|\behostunreach|network is unreachable|timed out.*connect"
        ),
    ),
    (
        "has no connection left",
        re.compile(r"(?i)too many (connections|clients)|remaining connection slots"),
    ),
    (
        "closes connections",
        re.compile(r"(?i)connection reset by peer|\beconnreset|server closed the connection"),
    ),
)
_HOST = r"(?P<host>[A-Za-z0-9_][\w.-]*)"
_PORT = r"(?P<port>\d{2,5})"
_HOSTS = [
    re.compile(pattern)
    for pattern in (
        rf"\w://(?:[^@/\s]*@)?{_HOST}(?::{_PORT})?",
        rf'server at "{_HOST}"(?: \([^)]*\))?, port {_PORT}',
        rf'host name "{_HOST}"',
        rf"host='{_HOST}', port={_PORT}",
        rf"lookup {_HOST}",
        rf"dial (?:tcp|udp)\w* {_HOST}:{_PORT}",
        rf"[Cc]onnecting to {_HOST}:{_PORT}",
        rf"[Cc]onnect to {_HOST} port {_PORT}",
        rf"[Cc]onnect call failed \('{_HOST}', {_PORT}",
        rf"resolve host:? '?{_HOST}",
        rf"(?:ENOTFOUND|EAI_AGAIN) {_HOST}",
        rf"(?:ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ECONNRESET) {_HOST}:{_PORT}",
        rf"UnknownHostException: {_HOST}",
        rf"onnection to {_HOST}:{_PORT}",
        rf"bad address '{_HOST}'",
        rf"\b(?P<host>[a-z][\w-]*(?:\.[\w-]+)*|\d+(?:\.\d+){{3}}):{_PORT}\b",
    )
]

_VOLUME = (
    ("is full", re.compile(r"(?i)no space left on device|\benospc|disk quota exceeded")),
    ("is read-only", re.compile(r"(?i)read-only file ?system|\berofs")),
    (
        "refuses this user",
        re.compile(r"(?i)permission denied|\beacces|operation not permitted|\beperm"),
    ),
)
_PATH = re.compile(r"""['"`](/[^'"`]+)['"`]|(?:^|[\s=:(])(/[\w.@+-]+(?:/[\w.@+-]*)*)""")
_VARIABLE = r"[\"'`$]?(?P<name>[A-Z][A-Z0-9_]{2,})\b"
_ASKED = [
    re.compile(pattern)
    for pattern in (
        rf"(?i:environment variables?|env vars?)(?i: named| called|:)?:? {_VARIABLE}",
        rf"{_VARIABLE}[\"'`]?(?i: environment variable| env var)?"
        r"(?i: (?:is |was )?(?:not set|undefined|unset|not defined|required)| must be set)",
        rf"{_VARIABLE}: (?:unbound variable|parameter (?:null or )?not set)",
    )
]
_KEY_ERROR = re.compile(rf"KeyError: {_VARIABLE}")


@dataclass(frozen=True)
class Dependency:
    """Something that the program could not reach: its host and port ('' where not named)."""

    host: str
    port: str
    how: str

    def __str__(self) -> str:
        return (self.host or "something its log does not name") + (self.port and f":{self.port}")


def final_errors(lines: list[str]) -> list[str]:
    """The line that says why it ended, then the errors that led to it; [] for an empty log."""
    spoken = [line for line in lines if line.strip()]
    telling = [line for line in spoken if _ERROR.search(line) and not _is_noise(line)]
    if not telling:
        rest = [line for line in spoken if not _is_noise(line)]
        return rest[-1:] or spoken[-1:]
    return [telling[-1], *(line for line in _chain(spoken) if line != telling[-1])]


def final_error(lines: list[str]) -> str:
    """The line that says why it ended, short enough for a sentence."""
    line = next(iter(final_errors(lines)), "").strip()
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _is_noise(line: str) -> bool:
    return bool(_AFTERMATH.search(line) or _FRAME.search(line) or line.startswith(_TRACEBACK))


def _chain(lines: list[str]) -> list[str]:
    """The exceptions that one traceback names as its causes, if the log ends in such a chain."""
    starts = [n for n, line in enumerate(lines) if _TRACEBACK in line]
    first = len(starts) - 1
    while first > 0 and _CHAINED.search(lines[starts[first] - 1]):
        first -= 1
    if first == len(starts) - 1:
        return []
    return [line for line in lines[starts[first] :] if _ERROR.search(line) and not _is_noise(line)]


def dependency(lines: list[str]) -> Dependency | None:
    """What the program could not reach in the end, or None if it ended for another reason."""
    for line in final_errors(lines):
        how = next((words for words, pattern in _HOW if pattern.search(line)), "")
        if how:
            nearby = [one for one in lines[-NEAR:][::-1] if _names_trouble(one)]
            host, port = next((found for one in (line, *nearby) if (found := _host(one))), ("", ""))
            return Dependency(host, port, how)
    return None


def _names_trouble(line: str) -> bool:
    return not _AFTERMATH.search(line) and any(pattern.search(line) for _, pattern in _HOW)


def _host(line: str) -> tuple[str, str] | None:
    for pattern in _HOSTS:
        if found := pattern.search(line):
            return found["host"].rstrip(".-"), found.groupdict().get("port") or ""
    return None


def volume(lines: list[str]) -> tuple[str, str] | None:
    """(what is wrong, the path) where a file could not be written or read in the end."""
    for line in final_errors(lines):
        for wrong, pattern in _VOLUME:
            if not pattern.search(line):
                continue
            path = next((a or b for a, b in _PATH.findall(line)), "")
            # Without a path it may be a database's or a port's refusal.
            if wrong == "refuses this user" and (not path or re.search(r"(?i)bind|listen", line)):
                continue
            return wrong, path
    return None


def mentions(lines: list[str], variable: str) -> bool:
    """Whether the last errors, or the lines right beside the last one, name this variable."""
    errors = final_errors(lines)
    if not errors:
        return False
    at = len(lines) - 1 - lines[::-1].index(errors[0])
    near = errors + lines[max(at - 2, 0) : at + 2]
    return any(re.search(rf"(?i)\b{re.escape(variable)}\b", line) for line in near)


def asked_variable(lines: list[str]) -> str:
    """The environment variable whose absence the log names as the end, or ''."""
    for line in final_errors(lines):
        for pattern in _ASKED:
            if found := pattern.search(line):
                return str(found["name"])
        found = _KEY_ERROR.search(line)
        # A KeyError may come from any mapping; only os.environ's shows one of these above it.
        if found and any("environ" in one or "<frozen os>" in one for one in lines[-8:]):
            return str(found["name"])
    return ""
