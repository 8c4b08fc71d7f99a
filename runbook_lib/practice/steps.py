"""What a scenario does to a platform, a step at a time.

A step is `{system.verb: {arguments}}`. The verbs of `kubernetes` below are ordinary API calls, as
any client could make them; every other verb is the system's own (`System.verbs`) and goes to the
host. `sql` is a statement by psycopg; `wait` holds until an observation is seen.
"""

from __future__ import annotations

import contextlib
import datetime
import inspect
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from runbook_lib.practice.access import STRATEGIC_PATCH, Cluster, resource_path
from runbook_lib.practice.cluster.spans import span
from runbook_lib.practice.lookers import LOOKERS, CouldNotLook
from runbook_lib.practice.observe import Observation, faults_of, look
from runbook_lib.practice.platform import Platform, PracticeError
from runbook_lib.practice.postgres.server import APPLICATION_ROLES
from runbook_lib.practice.seed.parts import NODES
from runbook_lib.practice.wait import until

PROGRAM = "practice.runbook/program"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
EFFECT_SECONDS = 60.0
# Words that are random at each start, so that no file can say them, and those that come after them.
WORDS = ("jwt_secret", *(f"password_{role}" for role in APPLICATION_ROLES))
ALL_WORDS = (*WORDS, *(f"rotated_{word}" for word in WORDS))
WORD = re.compile(r"\$\{([^}]*)\}")


class Step(BaseModel):
    """One change to a platform; read from a mapping `{system.verb: {arguments}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    verb: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_mapping(cls, given: Any) -> Any:
        if not isinstance(given, dict) or len(given) != 1:
            raise ValueError("a step is one `system.verb` and its arguments")
        [(name, arguments)] = given.items()
        arguments = arguments or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise ValueError("a step is one `system.verb` and its arguments, by name")
        system, _, verb = name.partition(".")
        step = {"system": system, "verb": verb, "arguments": arguments}
        if system != "aws":  # whose verbs know names of the account, and refuse all others
            _refuse_unknown_words(arguments)
        if name == "wait":
            _refuse_bad_look(arguments)
        elif name == "sql":
            LOOKERS["sql"].refuse_unknown(arguments)
        elif name in CALLS:
            _refuse_unknown(name, arguments)
        return step

    def __str__(self) -> str:
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in self.arguments.items())
        return f"{self.system}.{self.verb} {words}".replace(". ", " ").strip()


def _refuse_bad_look(asked: Any) -> None:
    try:
        Observation.model_validate(asked)
    except ValidationError as error:
        raise ValueError(f"wait: {faults_of(error)}") from None


def _refuse_unknown_words(value: Any) -> None:
    if isinstance(value, str):
        for word in WORD.findall(value):
            if word not in ALL_WORDS:
                raise ValueError(f"nobody knows ${{{word}}}; there are {', '.join(ALL_WORDS)}")
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _refuse_unknown_words(one)


def _refuse_unknown(name: str, arguments: dict[str, Any]) -> None:
    try:
        inspect.signature(CALLS[name]).bind(None, **arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None


def refuse_impossible(platform: Platform, steps: Iterable[Step]) -> None:
    """Before the first step is taken: every verb and argument is known to its system.

    Raises PracticeError naming the step and what there is instead.
    """
    systems = platform.control("verbs")
    for step in steps:
        if step.system in PLAIN or f"{step.system}.{step.verb}" in CALLS:
            continue  # checked when they were read
        if step.system not in systems:
            raise PracticeError(f"{step}: no system {step.system!r}; {', '.join(systems)}")
        verbs = systems[step.system]
        if step.verb not in verbs:
            raise PracticeError(f"{step}: no verb {step.verb!r}; {', '.join(verbs)}")
        if unknown := set(step.arguments) - set(verbs[step.verb]):
            said = f"takes no {', '.join(sorted(unknown))}; {', '.join(verbs[step.verb])}"
            raise PracticeError(f"{step}: {said}")


def take(platform: Platform, step: Step) -> None:
    """Take one step. Raises PracticeError with the reason when it cannot be taken."""
    import httpx

    if step.system == "wait":
        wait_for(platform, Observation.model_validate(step.arguments))
        return
    arguments = _filled(step.arguments, platform)
    if step.system == "sql":
        try:
            LOOKERS["sql"].look(platform, **{"seconds": EFFECT_SECONDS, **arguments})
        except CouldNotLook as error:
            raise PracticeError(f"{step}: {error}") from None
        return
    call = CALLS.get(f"{step.system}.{step.verb}")
    if call is None:
        platform.do(step.system, step.verb, **arguments)
        return
    with contextlib.closing(platform.cluster()) as cluster:
        try:
            call(cluster, **arguments)
        except (httpx.HTTPError, LookupError, ValueError) as error:
            raise PracticeError(f"{step}: {error}") from None


def _filled(value: Any, platform: Platform) -> Any:
    """`${jwt_secret}` and the other words, as they are on this platform; the rest is left."""
    if isinstance(value, str):
        known = {"jwt_secret": platform.jwt_secret}
        known |= {f"password_{role}": word for role, word in platform.passwords.items()}
        known |= {f"rotated_{name}": word for name, word in platform.rotated.items()}
        return WORD.sub(lambda word: known.get(word[1], word[0]), value)
    if isinstance(value, dict):
        return {name: _filled(one, platform) for name, one in value.items()}
    return [_filled(one, platform) for one in value] if isinstance(value, list) else value


def wait_for(platform: Platform, observation: Observation, seconds: float = EFFECT_SECONDS) -> None:
    """Until it is seen. Raises PracticeError saying what was there instead."""
    said = ""

    def seen() -> bool:
        nonlocal said
        sight = look(platform, observation)
        said = sight.said
        return sight.seen

    try:
        until(seen, seconds, str(observation))
    except TimeoutError as error:
        raise PracticeError(f"{error}; there was: {said}") from None


# The ordinary API calls


def patch(
    cluster: Cluster,
    of: str,
    namespace: str = "",
    merge: dict[str, Any] | None = None,
    strategic: dict[str, Any] | None = None,
) -> None:
    """Patch one object: null deletes a field.

    `strategic` is what `kubectl patch` sends: containers and variables are found by their names.
    """
    if (merge is None) == (strategic is None):
        raise ValueError("either `merge` or `strategic`")
    path = resource_path(of, namespace)
    if strategic is not None:
        cluster.patch(path, strategic, STRATEGIC_PATCH)
    elif merge is not None:
        cluster.patch(path, merge)


def create(cluster: Cluster, object: dict[str, Any], of: str, namespace: str = "") -> None:
    """Post an object to the collection `of` (a plural)."""
    cluster.create(resource_path(of, namespace), object)


def delete(
    cluster: Cluster,
    what: str,
    namespace: str = "",
    labels: str = "",
    fields: str = "",
    now: bool = False,
) -> None:
    """Delete one object, or all that `labels` and `fields` select."""
    query = {"labelSelector": labels, "fieldSelector": fields}
    query = {name: text for name, text in query.items() if text}
    if now:
        query["gracePeriodSeconds"] = "0"
    cluster.delete(resource_path(what, namespace), **query)


def restart(cluster: Cluster, workload: str, namespace: str) -> None:
    """What `kubectl rollout restart` does."""
    _patch_template(cluster, workload, namespace, {RESTARTED: _moment(0)})


def scale(cluster: Cluster, workload: str, namespace: str, replicas: int) -> None:
    """What `kubectl scale` does."""
    cluster.patch(resource_path(f"{workload}/scale", namespace), {"spec": {"replicas": replicas}})


def rollout(cluster: Cluster, workload: str, namespace: str) -> None:
    """Wait as `kubectl rollout status` does: every pod is of the newest template and available.

    A Deployment's counters are read, so its pods of before are gone or going. Raises ValueError.
    """
    found: dict[str, Any] = {}

    def done() -> bool:
        found.update(cluster.get(resource_path(workload, namespace)))
        # A Deployment of a moment ago has none.
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        counters = {status.get(f"{of}eplicas", 0) for of in ("r", "updatedR", "availableR")}
        return status.get("observedGeneration") == found["metadata"]["generation"] and (
            counters == {wanted}
        )

    try:
        until(done, EFFECT_SECONDS, f"the rollout of {workload}")
    except TimeoutError as error:
        raise ValueError(f"{error}; its status was: {json.dumps(found.get('status'))}") from None


def program(
    cluster: Cluster,
    workload: str,
    namespace: str,
    set: dict[str, Any],
    container: str = "",
    roll: bool = True,
    pods: int | None = None,
) -> None:
    """Let containers of a workload behave otherwise (docs/practice-cluster.md lists the names).

    A value of null is forgotten. With `roll` the template changes, and with it come new pods;
    without it the running pods change, all of them or the first `pods` by name.
    """
    found = cluster.get(resource_path(workload, namespace))
    template = found["spec"]["template"]
    if roll:
        changed = _behaviour(template, set, container)
        # To who does not see the behaviour it is a restart, which can be undone.
        begun = _moment(span(set.get("started_ago") or "0s"))
        _patch_template(cluster, workload, namespace, {PROGRAM: changed, RESTARTED: begun})
        return
    selector = ",".join(f"{k}={v}" for k, v in found["spec"]["selector"]["matchLabels"].items())
    running = cluster.get(resource_path("pods", namespace), labelSelector=selector)["items"]
    staying = [one for one in running if "deletionTimestamp" not in one["metadata"]]
    for pod in sorted(staying, key=lambda one: str(one["metadata"]["name"]))[:pods]:
        changed = _behaviour(pod, set, container)
        path = resource_path(f"pods/{pod['metadata']['name']}", namespace)
        cluster.patch(path, {"metadata": {"annotations": {PROGRAM: changed}}})


def _behaviour(carrier: dict[str, Any], changes: dict[str, Any], container: str) -> str:
    """The annotation of a pod or a template with one container's behaviour changed."""
    annotations = carrier["metadata"].get("annotations") or {}
    behaviours = json.loads(annotations.get(PROGRAM) or "{}")
    name = container or carrier["spec"]["containers"][0]["name"]
    merged = {**behaviours.get(name, {}), **changes}
    behaviours[name] = {key: value for key, value in merged.items() if value is not None}
    return json.dumps(behaviours)


def _moment(seconds_ago: float) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return (now - datetime.timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")


def _patch_template(
    cluster: Cluster, workload: str, namespace: str, annotations: dict[str, str]
) -> None:
    body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    cluster.patch(resource_path(workload, namespace), body)


def node(
    cluster: Cluster,
    number: int,
    stats: dict[str, Any] | None = None,
    annotations: dict[str, Any] | None = None,
) -> None:
    """Let the node of that number (from 1) behave otherwise: `stats` are merged into its own.

    `annotations` go without their prefix; docs/practice-cluster.md lists both.
    """
    if not 1 <= number <= len(NODES):
        raise ValueError(f"there are nodes 1 to {len(NODES)}, and no {number}")
    path = resource_path(f"nodes/{NODES[number - 1].name}")
    key = "practice.runbook/stats"
    changed = {f"practice.runbook/{name}": value for name, value in (annotations or {}).items()}
    if stats:
        old = cluster.get(path)["metadata"].get("annotations", {}).get(key, "{}")
        changed[key] = json.dumps({**json.loads(old), **stats})
    cluster.patch(path, {"metadata": {"annotations": changed}})


# Steps that are of no system: they act as, or look through, an ordinary client.
PLAIN = ("sql", "wait")
CALLS: dict[str, Callable[..., None]] = {
    f"kubernetes.{function.__name__}": function
    for function in (patch, create, delete, restart, scale, rollout, program, node)
}
