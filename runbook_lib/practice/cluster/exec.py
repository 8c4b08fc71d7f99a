"""Commands in a container: a few tools that answer from the cluster's state, in their own words.

What an image does not have is refused as its runtime would; what it would have and is not simulated
here is refused loudly, in words that no runtime has.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runbook_lib.practice.cluster import curl, files
from runbook_lib.practice.cluster.containers import expanded_shell
from runbook_lib.practice.cluster.dialing import Network
from runbook_lib.practice.cluster.kubelet import Kubelet
from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.kubernetes.kubelets import Executed
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, Store

_MISSING = (
    "OCI runtime exec failed: exec failed: unable to start container process: "
    'exec: "{}": executable file not found in $PATH: unknown\n'
)
_NOT_SIMULATED = "{}: the practice platform does not simulate this command\n"
# What images with a shell have, as a rule, beside the tools that are simulated.
_ORDINARY = """
apt apt-get awk base64 basename bash chmod chown cp cut date dd df dirname dpkg du false find
free grep gunzip gzip head hostname id kill ln ls md5sum mkdir mktemp mount mv nproc pip pip3 ps
pwd python python3 readlink realpath rm rmdir sed seq sha256sum sleep sort stat sync tail tar
tee test timeout top touch tr true uname uniq uptime wc which whoami xargs
"""
# A program outside of this module that stands for an image's tool: (pod, container, argv, stdin).
Tool = Callable[[Object, str, list[str], bytes], Awaitable[Executed]]


@dataclass(frozen=True)
class Shell:
    """Where a command runs."""

    pod: Object
    container: str
    program: Program
    environment: dict[str, str]
    store: Store
    network: Network
    stdin: bytes


def text(out: str = "", code: int = 0, err: str = "") -> Executed:
    return Executed(code, out.encode(), err.encode())


class Exec:
    """Runs commands in containers. `tools` may be given more, by name: redis-cli, psql, aws."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store = store
        self._kubelet = kubelet
        self.network = kubelet.network
        self.tools: dict[str, Tool] = {}

    async def run(self, pod: Object, container: str, argv: list[str], stdin: bytes) -> Executed:
        """What the command wrote and how it ended; 126 or 127 where it could not be run."""
        environment = self._kubelet.environment(pod, container)
        if environment is None:
            return text(code=126, err=f"container {container} is not running\n")
        shell = Shell(
            pod,
            container,
            self._kubelet.program(pod, container),
            {**_given(pod), **environment},
            self._store,
            self.network,
            stdin,
        )
        return await self._command(shell, argv, _MISSING)

    async def _command(self, shell: Shell, argv: list[str], missing: str) -> Executed:
        if (known := shell.program.commands.get(" ".join(argv))) is not None:
            return text(known)
        name = argv[0].rsplit("/", 1)[-1]
        if name in _ORDINARY.split() and "sh" in shell.program.tools:
            return text(code=126, err=_NOT_SIMULATED.format(name))
        if name not in shell.program.tools:
            return text(code=127, err=missing.format(argv[0]))
        if name == "sh":
            return await self._sh(shell, argv[1:])
        if name in _TOOLS:
            return await _TOOLS[name](shell, argv[1:])
        if name in self.tools:
            return await self.tools[name](shell.pod, shell.container, argv, shell.stdin)
        return text(code=126, err=_NOT_SIMULATED.format(name))

    async def _sh(self, shell: Shell, arguments: list[str]) -> Executed:
        """`-c` with simple commands joined by ;, && and ||; more is refused."""
        if arguments[:1] != ["-c"] or len(arguments) < 2:
            return text(code=2, err="sh: only -c COMMAND is simulated in practice\n")
        if re.search(r"[`|<>(){}*]|\$\(", _plain(arguments[1])):
            why = "pipes, redirections and substitutions are not simulated in practice"
            return text(code=2, err=f"sh: {why}\n")
        done = Executed(0)
        for joint, command in _commands(arguments[1]):
            if (joint == "&&" and done.code) or (joint == "||" and not done.code):
                continue
            merged = command.endswith("2>&1")
            words = [
                expanded_shell(word, shell.environment)
                for word in shlex.split(command.removesuffix("2>&1"))
            ]
            if not words:
                continue
            one = await self._command(shell, words, "sh: 1: {}: not found\n")
            out, err = (one.out + one.err, b"") if merged else (one.out, one.err)
            done = Executed(one.code, done.out + out, done.err + err)
        return done


def _plain(command: str) -> str:
    """The command without what may stand in it: ||, 2>&1 and single-quoted text."""
    return re.sub(r"'[^']*'", "", command.replace("||", "").replace("2>&1", ""))


def _commands(line: str) -> list[tuple[str, str]]:
    """(what joins it to the former, command) for each command of a line."""
    pieces = re.split(r"(;|&&|\|\||\n)(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", line)
    joints = [";", *pieces[1::2]]
    return [(joint, piece.strip()) for joint, piece in zip(joints, pieces[::2], strict=True)]


def _given(pod: Object) -> dict[str, str]:
    """What every container's environment holds beside its manifest's."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": str(pod["metadata"]["name"]),
        "HOME": "/root",
        "KUBERNETES_SERVICE_HOST": "172.20.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }


async def _env(shell: Shell, arguments: list[str]) -> Executed:
    if arguments:
        return text(code=125, err="env: arguments are not simulated in practice\n")
    return text("".join(f"{name}={value}\n" for name, value in shell.environment.items()))


async def _printenv(shell: Shell, arguments: list[str]) -> Executed:
    if not arguments:
        return await _env(shell, [])
    found = [shell.environment[name] for name in arguments if name in shell.environment]
    return text("".join(f"{value}\n" for value in found), int(len(found) < len(arguments)))


async def _echo(shell: Shell, arguments: list[str]) -> Executed:
    return text(" ".join(arguments) + "\n")


async def _cat(shell: Shell, arguments: list[str]) -> Executed:
    if not arguments:
        return Executed(0, shell.stdin)
    out, err = b"", ""
    for path in arguments:
        content = files.content(shell.store, shell.pod, shell.container, shell.program, path)
        if content is None:
            err += f"cat: {path}: No such file or directory\n"
        else:
            out += content
    return Executed(int(bool(err)), out, err.encode())


async def _getent(shell: Shell, arguments: list[str]) -> Executed:
    if len(arguments) != 2 or arguments[0] not in ("hosts", "ahosts"):
        return text(code=1, err="getent: only `hosts NAME` is simulated in practice\n")
    outcome, address, full = shell.network.resolve(shell.pod, arguments[1])
    if outcome != "connected":
        return text(code=2)
    return text(f"{address:<16}{full}\n")


async def _nslookup(shell: Shell, arguments: list[str]) -> Executed:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return text(code=1, err="nslookup: only NAME is simulated in practice\n")
    outcome, address, full = shell.network.resolve(shell.pod, arguments[0])
    if outcome == "no answer":
        return text(";; connection timed out; no servers could be reached\n\n", 1)
    server = dig(shell.store.find("services", "kube-dns", "kube-system"), "spec.clusterIP", "")
    head = f"Server:\t\t{server}\nAddress:\t{server}#53\n\n"
    if outcome == "absent":
        return text(f"{head}** server can't find {arguments[0]}: NXDOMAIN\n\n", 1)
    return text(f"{head}Name:\t{full}\nAddress: {address}\n\n")


_NC_FLAGS = re.compile(r"-[zvn46]*(w(\d*))?")


async def _nc(shell: Shell, arguments: list[str]) -> Executed:
    """OpenBSD's nc, of which only -z (scan) is simulated."""
    flags, rest = "", list(arguments)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        found = _NC_FLAGS.fullmatch(flag)
        if not found:
            return text(code=1, err=f"nc: {flag} is not simulated in practice\n")
        flags += flag
        if found[1] == "w" and rest:
            rest.pop(0)
    if "z" not in flags or len(rest) != 2 or not rest[1].isdecimal():
        return text(code=1, err="nc: only -z[v] [-w SECONDS] HOST PORT is simulated in practice\n")
    host, port = rest
    went = await shell.network.connect(shell.pod, host, int(port))
    where = f"{host} ({went.ip}) port {port} (tcp)"
    said = {
        "connected": f"Connection to {host} ({went.ip}) {port} port [tcp/*] succeeded!",
        "refused": f"nc: connect to {where} failed: Connection refused",
        "timeout": f"nc: connect to {where} timed out: Operation now in progress",
        "absent": f'nc: getaddrinfo for host "{host}" port {port}: Name or service not known',
        "no answer": f'nc: getaddrinfo for host "{host}" port {port}: '
        "Temporary failure in name resolution",
    }[went.outcome]
    spoken = "v" in flags or went.outcome in ("absent", "no answer")
    return text(code=int(went.outcome != "connected"), err=f"{said}\n" if spoken else "")


async def _curl(shell: Shell, arguments: list[str]) -> Executed:
    return await curl.run(shell.network, shell.pod, arguments)


_TOOLS: dict[str, Callable[[Shell, list[str]], Awaitable[Executed]]] = {
    "env": _env,
    "printenv": _printenv,
    "echo": _echo,
    "cat": _cat,
    "getent": _getent,
    "nslookup": _nslookup,
    "nc": _nc,
    "curl": _curl,
}
