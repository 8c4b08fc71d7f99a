"""curl in a container: its options that runbooks use, its words, its exit codes."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from http import HTTPStatus

from runbook_lib.practice.cluster.dialing import Dialed, Network
from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object

_CONNECT_SECONDS = 134.0  # after which Linux gives up
_QUICK_SECONDS = 0.004
_LONG = {
    "--silent": "-s",
    "--show-error": "-S",
    "--output": "-o",
    "--write-out": "-w",
    "--verbose": "-v",
    "--max-time": "-m",
    "--insecure": "-k",
    "--location": "-L",
    "--request": "-X",
    "--data": "-d",
    "--header": "-H",
    "--head": "-I",
    "--fail": "-f",
    "--connect-timeout": "-t",
}


@dataclass
class _Options:
    given: dict[str, str] = field(default_factory=dict)
    url: str = ""

    @property
    def patience(self) -> float:
        """Seconds after which it gives up to connect."""
        limits = [float(self.given[name]) for name in ("-m", "-t") if name in self.given]
        return min([*limits, _CONNECT_SECONDS])


async def run(network: Network, pod: Object, arguments: list[str]) -> Executed:
    """One request, GET unless told otherwise. No time passes: what it would take is told."""
    try:
        options = _parsed(arguments)
    except ValueError as problem:
        return Executed(2, err=f"curl: {problem}\n".encode())
    url = options.url if "://" in options.url else f"http://{options.url}"
    target = urllib.parse.urlsplit(url)
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    went = await network.connect(pod, host, port)
    talk = f"*   Trying {went.ip}:{port}...\n" if went.ip else ""
    if went.outcome != "connected":
        return _failed(options, went, host, port, talk)
    talk += f"* Connected to {host} ({went.ip}) port {port}\n"
    if went.pod is None:
        return _end(options, talk, 52, "Empty reply from server", took=_QUICK_SECONDS)
    if target.scheme == "https":
        why = "OpenSSL/3.0.17: error:0A00010B:SSL routines::wrong version number"
        return _end(options, talk, 35, why, took=_QUICK_SECONDS)
    program = network.program(went.pod, went.container)
    took = program.answer_seconds + _QUICK_SECONDS
    limit = float(options.given.get("-m", "0"))
    if limit and took > limit:
        why = f"Operation timed out after {limit * 1000:.0f} milliseconds with 0 bytes received"
        return _end(options, talk, 28, why, took=limit)
    status, body = _answer(went, program.answers, program.not_ready, target.path or "/")
    phrase = HTTPStatus(status).phrase
    method = options.given.get("-X", "POST" if "-d" in options.given else "GET")
    talk += (
        f"> {method} {target.path or '/'} HTTP/1.1\n> Host: {target.netloc}\n> Accept: */*\n> \n"
    )
    talk += f"< HTTP/1.1 {status} {phrase}\n< content-length: {len(body)}\n< \n"
    if "-f" in options.given and status >= 400:
        why = f"The requested URL returned error: {status}"
        return _end(options, talk, 22, why, status=status, took=took)
    if "-I" in options.given:
        body = f"HTTP/1.1 {status} {phrase}\r\ncontent-length: {len(body)}\r\n\r\n"
    return _end(options, talk, 0, "", status=status, body=body, took=took)


def _parsed(arguments: list[str]) -> _Options:
    options, rest = _Options(), list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            options.url = word
            continue
        letters = _LONG.get(word, word)
        if letters.startswith("--"):
            raise ValueError(f"option {word}: is not simulated in practice")
        for index, letter in enumerate(letters[1:], start=2):
            if letter not in "sSowvmkLXdHIft":
                raise ValueError(f"option -{letter}: is not simulated in practice")
            if letter not in "owmXdHt":
                options.given[f"-{letter}"] = ""
                continue
            options.given[f"-{letter}"] = letters[index:] or (rest.pop(0) if rest else "")
            break
    if not options.url:
        raise ValueError("(2) no URL specified")
    return options


def _failed(options: _Options, went: Dialed, host: str, port: int, talk: str) -> Executed:
    patience = options.patience
    if went.outcome == "absent":
        return _end(options, talk, 6, f"Could not resolve host: {host}", took=_QUICK_SECONDS)
    if went.outcome == "no answer":
        if patience < 10:  # the resolver tries twice for five seconds
            why = f"Resolving timed out after {patience * 1000:.0f} milliseconds"
            return _end(options, talk, 28, why, took=patience)
        return _end(options, talk, 6, f"Could not resolve host: {host}", took=10)
    if went.outcome == "refused":
        why = f"Failed to connect to {host} port {port} after 2 ms: Couldn't connect to server"
        talk += f"* connect to {went.ip} port {port} failed: Connection refused\n"
        return _end(options, talk, 7, why, took=0.002)
    if patience < _CONNECT_SECONDS:
        why = f"Connection timed out after {patience * 1000:.0f} milliseconds"
    else:
        why = f"Failed to connect to {host} port {port} after 134215 ms: Couldn't connect to server"
    return _end(options, talk, 28, why, took=patience)


def _answer(went: Dialed, answers: object, not_ready: bool, path: str) -> tuple[int, str]:
    """(status, body) of what the container's program says of a path."""
    assert isinstance(answers, dict) and went.pod
    if not_ready:
        return 503, ""
    if said := answers.get(path) or answers.get("*"):
        status, _, body = said.partition(" ")
        return int(status), body
    spec = next(c for c in went.pod["spec"]["containers"] if c["name"] == went.container)
    probes = [dig(spec, f"{kind}Probe.httpGet.path") for kind in ("readiness", "liveness")]
    return (200, "") if path == "/" or path in probes else (404, '{"detail":"Not Found"}')


def _end(
    options: _Options,
    talk: str,
    code: int,
    why: str,
    *,
    status: int = 0,
    body: str = "",
    took: float = 0.0,
) -> Executed:
    given = options.given
    out = "" if "-o" in given else body
    for name, value in (
        ("http_code", f"{status:03d}"),
        ("response_code", f"{status:03d}"),
        ("time_total", f"{took:.6f}"),
        ("time_connect", f"{min(took, 0.001):.6f}"),
        ("time_namelookup", "0.000900"),
        ("time_starttransfer", f"{took:.6f}"),
        ("exitcode", str(code)),
    ):
        given["-w"] = given.get("-w", "").replace(f"%{{{name}}}", value)
    out += given["-w"].replace("\\n", "\n")
    err = talk if "-v" in given else ""
    if code and ("-s" not in given or "-S" in given):
        err += f"curl: ({code}) {why}\n"
    return Executed(code, out.encode(), err.encode())
