"""What one container does, step by step, as a kubelet and a runtime would report it.

A container's behaviour is data (`program`). Each step happens at
a given time and names the seconds until the next: so a history can be lived through at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from runbook_lib.practice.cluster.program import Program
from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.objects.quantities import quantity
from runbook_lib.practice.objects.selectors import dig
from runbook_lib.practice.objects.store import Object, stamp

_BACK_OFF, _BACK_OFF_LIMIT = 10, 300  # seconds, as in the kubelet
_SYNC_SECONDS = 12  # how often a kubelet looks again at a container that it cannot create
_CREATE_ERROR = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: error during container init: {}: "
    "unknown"
)


_LONG_LIFE = 30.0  # seconds
_PID = 21734
_CHILD_OOM = (
    "[ERROR] Worker (pid:17) was sent SIGKILL! Perhaps out of memory?",
    "[INFO] Booting worker with pid: 23",
)


class ConfigError(Exception):
    """The container's environment cannot be made; the text is the kubelet's."""


@dataclass(frozen=True)
class Setting:
    """What a step needs to know of the world around the container."""

    spec: Object
    program: Program
    pod: str  # name_namespace(uid), as the kubelet writes it
    restart_policy: str
    init: bool
    batch: bool  # of a Job: it ends by itself
    environment: Callable[[], dict[str, str]]
    record: Callable[..., None]  # (type, reason, message, at=, count=, span=)
    record_on_node: Callable[..., None]  # the same, about the node
    reach: Callable[[str], str]  # "host:port" to how a connection to it goes
    pull: Callable[[str], str]  # an image to why its registry does not give it, '' where it does


@dataclass
class Fate:
    """How a running container will end."""

    after: float
    exit_code: int
    reason: str
    lines: tuple[str, ...] = ()
    killed: bool = False


@dataclass
class Container:
    name: str
    image: str
    identity: str
    waits_for: str = "ContainerCreating"
    state: Object = field(default_factory=dict)
    last: Object = field(default_factory=dict)
    restarts: int = 0
    ends: int = 0  # how often it has ended
    pulls: int = 0  # failed image pulls
    ready: bool = False
    running: bool = False
    done: bool = False
    started: float = 0.0  # Unix time of its last start
    fate: Fate | None = None
    environment: dict[str, str] = field(default_factory=dict)  # as it was when it started
    log: list[tuple[float, str]] = field(default_factory=list)
    previous: list[tuple[float, str]] | None = None

    def __post_init__(self) -> None:
        self.state = self.state or {"waiting": {"reason": self.waits_for}}

    def status(self) -> Object:
        found: Object = {
            "name": self.name,
            "image": self.image,
            "imageID": f"{self.image.partition(':')[0]}@sha256:{self.identity}" if self.log else "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }
        if self.running or self.ends:
            found["containerID"] = self._runtime_id(self.ends)
        return found

    def _runtime_id(self, number: int) -> str:
        return f"containerd://{number:08x}{self.identity[8:]}"

    def ended(self, fate: Fate, started: float | None, at: float, message: str = "") -> Object:
        found: Object = {
            "exitCode": fate.exit_code,
            "reason": fate.reason,
            "startedAt": stamp(0 if started is None else started),
            "finishedAt": stamp(at),
            "containerID": self._runtime_id(self.ends),
        }
        return {**found, "message": message} if message else found

    def rethink(self, setting: Setting) -> None:
        """Its program changed while it runs: a new fate, a new readiness."""
        try:
            self.fate = _fate(setting, setting.environment())
        except ConfigError:
            self.fate = None  # it has the environment that it was started with

    def stop(self, at: float, exit_code: int = 137) -> None:
        """It is made to end for good, by its kubelet."""
        if self.running:
            fate = Fate(0, exit_code, "Error")
            self.ends += 1
            self.state = {"terminated": self.ended(fate, self.started, at)}
            self.previous = self.log
        self.running = self.ready = False
        self.done = True

    def current_log(self) -> list[tuple[float, str]]:
        """A container that waits to be restarted shows the log of its last run."""
        return self.log if self.running or self.done else self.previous or []


def step(container: Container, setting: Setting, at: float) -> float | None:
    """Do what is due at a time; the seconds until the next step, None where all is settled."""
    if container.done:
        return None
    if not container.running:
        return _start(container, setting, at)
    if container.fate is not None:
        return _end(container, setting, container.fate, at)
    return _probe(container, setting, at)


def _start(container: Container, setting: Setting, at: float) -> float | None:
    program, image = setting.program, container.image
    if error := program.image_error or setting.pull(image):
        return _fail_to_pull(container, setting, error, at)
    pulled = f'Container image "{image}" already present on machine'
    setting.record("Normal", "Pulled", pulled, at=at)
    try:
        environment = setting.environment()
    except ConfigError as problem:
        text = str(problem)
        setting.record("Warning", "Failed", f"Error: {text}", at=at)
        _wait(container, "CreateContainerConfigError", text)
        return _SYNC_SECONDS
    if container.ends:
        container.restarts += 1
        if ended := container.state.get("terminated"):
            container.last = {"terminated": ended}
    setting.record("Normal", "Created", f"Created container: {container.name}", at=at)
    if program.start_error:
        message = _CREATE_ERROR.format(program.start_error)
        setting.record("Warning", "Failed", f"Error: {message}", at=at)
        container.log = []
        return _ended(container, setting, Fate(0, 128, "StartError"), None, at, message)
    setting.record("Normal", "Started", f"Started container {container.name}", at=at)
    lines = (*program.log, *(_CHILD_OOM if program.child_oom else ()))
    container.running, container.log = True, [(at, line) for line in lines]
    container.started = at
    container.state = {"running": {"startedAt": stamp(at)}}
    container.environment = environment
    container.fate = _fate(setting, environment)
    # Whoever lives that long passes a probe or two first.
    lives = container.fate and not container.fate.killed and container.fate.after >= _LONG_LIFE
    container.ready = bool(lives) and not (program.not_ready or setting.init)
    return container.fate.after if container.fate else _ready_after(setting.spec)


def _fate(setting: Setting, environment: dict[str, str]) -> Fate | None:
    program = setting.program
    fate = _own_fate(setting, environment)
    if fate is not None:
        fate.lines += program.last_log
    return fate


def _own_fate(setting: Setting, environment: dict[str, str]) -> Fate | None:
    program = setting.program
    code = program.exit_code
    after = program.run_seconds
    if lines := _obstacle(setting, environment):
        return Fate(after, 1 if code is None else code, "Error", lines)
    if program.oom or program.node_oom or _needs_more_memory(setting):
        return Fate(after, 137 if code is None else code, "OOMKilled")
    if program.memory_fills_in:
        return Fate(span(program.memory_fills_in), 137 if code is None else code, "OOMKilled")
    if program.liveness_fails:
        probe = setting.spec.get("livenessProbe") or {}
        after = probe.get("initialDelaySeconds", 0) + (
            probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        )
        return Fate(after, 137 if code is None else code, "Error", killed=True)
    conditional = program.needs_env or program.needs_host
    if setting.init or setting.batch or (code is not None and not conditional):
        code = 0 if code is None or conditional else code
        return Fate(after, code, "Error" if code else "Completed")
    return None


def _needs_more_memory(setting: Setting) -> bool:
    """Whether what it uses does not fit into its limit."""
    limit = dig(setting.spec, "resources.limits.memory")
    used = quantity(setting.program.usage.get("memory", "0"))
    return limit is not None and used > quantity(limit)


def _obstacle(setting: Setting, environment: dict[str, str]) -> tuple[str, ...]:
    """The last lines of an application that does not find what it needs; none where it does."""
    program = setting.program
    for name in program.needs_env:
        if name not in environment:
            return _traceback(name)
    for host in program.needs_host:
        if error := _CONNECTION_ERRORS.get(setting.reach(host)):
            return (f"ERROR: cannot connect to {host}", error)
    for mount in setting.spec.get("volumeMounts") or []:
        if mount["name"] == program.full_volume:
            path = f"{mount['mountPath']}/data.tmp"
            return (f"OSError: [Errno 28] No space left on device: '{path}'",)
    if program.unwritable:
        return (f"PermissionError: [Errno 13] Permission denied: '{program.unwritable}'",)
    return ()


_CONNECTION_ERRORS = {
    "refused": "ConnectionRefusedError: [Errno 111] Connection refused",
    "timeout": "TimeoutError: [Errno 110] Connection timed out",
    "absent": "socket.gaierror: [Errno -2] Name or service not known",
    "no answer": "socket.gaierror: [Errno -3] Temporary failure in name resolution",
}


def _traceback(name: str) -> tuple[str, ...]:
    return (
        "Traceback (most recent call last):",
        '  File "/app/main.py", line 14, in <module>',
        f'    settings = load(os.environ["{name}"])',
        '  File "<frozen os>", line 679, in __getitem__',
        f"KeyError: '{name}'",
    )


def _ready_after(spec: Object) -> float:
    return float((spec.get("readinessProbe") or {}).get("initialDelaySeconds", 0))


def _end(container: Container, setting: Setting, fate: Fate, at: float) -> float | None:
    if fate.killed:
        probe = setting.spec.get("livenessProbe") or {}
        times = probe.get("failureThreshold", 3)
        message = f"Liveness probe failed: {setting.program.probe_message}"
        setting.record("Warning", "Unhealthy", message, at=at, count=times)
        message = f"Container {container.name} failed liveness probe, will be restarted"
        setting.record("Normal", "Killing", message, at=at)
    container.log += [(at, line) for line in fate.lines]
    if setting.program.node_oom:
        victim = "System OOM encountered, victim process: {}, pid: {}"
        setting.record_on_node(
            "Warning", "SystemOOM", victim.format(_process(setting.spec), _PID), at=at
        )
    message = ""
    if fate.exit_code and setting.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        message = "\n".join(line for _, line in container.log[-80:])[-2048:]
    return _ended(container, setting, fate, container.started, at, message)


def _process(spec: Object) -> str:
    command = [*(spec.get("command") or []), "python"]
    return str(command[0].rsplit("/", 1)[-1])


def _ended(
    container: Container,
    setting: Setting,
    fate: Fate,
    started: float | None,
    at: float,
    message: str = "",
) -> float | None:
    container.ends += 1
    terminated = container.ended(fate, started, at, message)
    container.running = container.ready = False
    container.previous, container.fate = container.log, None
    policy = setting.restart_policy
    if policy == "Never" or (fate.exit_code == 0 and (policy == "OnFailure" or setting.init)):
        container.state, container.done = {"terminated": terminated}, True
        container.ready = setting.init and fate.exit_code == 0
        return None
    if container.ends == 1:  # the first restart comes at once
        container.state = {"terminated": terminated}
        return 1
    delay = min(_BACK_OFF * 2 ** min(container.ends - 2, 10), _BACK_OFF_LIMIT)
    container.last = {"terminated": terminated}
    text = f"back-off {_go_duration(delay)} restarting failed container={container.name}"
    _wait(container, "CrashLoopBackOff", f"{text} pod={setting.pod}")
    text = f"Back-off restarting failed container {container.name} in pod {setting.pod}"
    count = max(1, delay // _SYNC_SECONDS)
    setting.record("Warning", "BackOff", text, at=at, count=count, span=delay)
    return delay


def _probe(container: Container, setting: Setting, at: float) -> float | None:
    container.ready = not setting.program.not_ready
    if container.ready:
        return None
    message = f"Readiness probe failed: {setting.program.probe_message}"
    setting.record("Warning", "Unhealthy", message, at=at, count=6, span=60)
    return 60


def _fail_to_pull(container: Container, setting: Setting, error: str, at: float) -> float:
    image = container.image
    error = f'failed to pull and unpack image "{image}": {error}'
    if container.state.get("waiting", {}).get("reason") != "ErrImagePull":
        setting.record("Normal", "Pulling", f'Pulling image "{image}"', at=at)
        setting.record("Warning", "Failed", f'Failed to pull image "{image}": {error}', at=at)
        setting.record("Warning", "Failed", "Error: ErrImagePull", at=at)
        _wait(container, "ErrImagePull", error)
        return 2
    delay = min(_BACK_OFF * 2 ** min(container.pulls, 10), _BACK_OFF_LIMIT)
    container.pulls += 1
    text = f'Back-off pulling image "{image}"'
    count = max(1, delay // _SYNC_SECONDS)
    setting.record("Normal", "BackOff", text, at=at, count=count, span=delay)
    setting.record("Warning", "Failed", "Error: ImagePullBackOff", at=at, count=count, span=delay)
    _wait(container, "ImagePullBackOff", f"{text}: ErrImagePull: {error}")
    return delay


def _wait(container: Container, reason: str, message: str) -> None:
    container.state = {"waiting": {"reason": reason, "message": message}}


def _go_duration(whole: int) -> str:
    """As Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def expanded(text: str, environment: dict[str, str]) -> str:
    """$(NAME) in a value of env, as the kubelet expands it."""
    return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: environment.get(found[1], found[0]), text)


def expanded_shell(text: str, environment: dict[str, str]) -> str:
    """$NAME and ${NAME}, as a shell expands them: nothing where there is no such variable."""
    names = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
    return names.sub(lambda found: environment.get(found[1] or found[2], ""), text)
