"""Bodies in protobuf, which kubectl sends for `kubectl create …`, access reviews and evictions.

Only the fields named below are read, whose numbers Kubernetes publishes in the `generated.proto`
files of k8s.io/api and k8s.io/apimachinery; a body with any other field is refused. Answers are
always JSON, which such clients take too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from runbook_lib.practice.kubernetes.errors import ApiError, bad_request

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_KINDS = frozenset(
    "ConfigMap Secret ServiceAccount Namespace Service ResourceQuota Deployment Job CronJob "  # noqa: SIM905
    "PodDisruptionBudget Ingress Role ClusterRole RoleBinding ClusterRoleBinding Eviction "
    "SelfSubjectReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview "
    "LocalSubjectAccessReview TokenRequest DeleteOptions".split()
)

# Message: number name type, … A type is `str`, `int`, `bool`, `bytes`, or a message; `*` is a
# list, `%` a map from text; `?` marks a field that is told apart from its zero value.
_MESSAGES = """
ObjectMeta: 1 name str, 2 generateName str, 3 namespace str, 4 selfLink str, 5 uid str,
  6 resourceVersion str, 7 generation int, 8 creationTimestamp Time, 9 deletionTimestamp Time,
  11 labels %str, 12 annotations %str, 13 ownerReferences *OwnerReference, 14 finalizers *str
OwnerReference: 1 kind str, 3 name str, 4 uid str, 5 apiVersion str, 6 controller ?bool,
  7 blockOwnerDeletion ?bool
LabelSelector: 1 matchLabels %str, 2 matchExpressions *Requirement
Requirement: 1 key str, 2 operator str, 3 values *str
ConfigMap: 1 metadata ObjectMeta, 2 data %str, 3 binaryData %bytes, 4 immutable ?bool
Secret: 1 metadata ObjectMeta, 2 data %bytes, 3 type str, 4 stringData %str, 5 immutable ?bool
ServiceAccount: 1 metadata ObjectMeta, 3 imagePullSecrets *Reference,
  4 automountServiceAccountToken ?bool
Reference: 1 name str
Namespace: 1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status Empty
NamespaceSpec: 1 finalizers *str
Service: 1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status ServiceStatus
ServiceStatus: 1 loadBalancer Empty
ServiceSpec: 1 ports *ServicePort, 2 selector %str, 3 clusterIP str, 4 type str, 5 externalIPs *str,
  7 sessionAffinity str, 8 loadBalancerIP str, 10 externalName str, 11 externalTrafficPolicy str,
  12 healthCheckNodePort int, 13 publishNotReadyAddresses bool
ServicePort: 1 name str, 2 protocol str, 3 port int, 4 targetPort IntOrString, 5 nodePort int
ResourceQuota: 1 metadata ObjectMeta, 2 spec ResourceQuotaSpec, 3 status Empty
ResourceQuotaSpec: 1 hard %Quantity, 2 scopes *str
Deployment: 1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status Counts
DeploymentSpec: 1 replicas ?int, 2 selector ?LabelSelector, 3 template PodTemplate,
  4 strategy Strategy, 5 minReadySeconds int, 6 revisionHistoryLimit ?int, 7 paused bool,
  9 progressDeadlineSeconds ?int
Strategy: 1 type str, 2 rollingUpdate RollingUpdate
RollingUpdate: 1 maxUnavailable IntOrString, 2 maxSurge IntOrString
Counts: 1 observedGeneration int, 2 replicas int, 3 updatedReplicas int, 4 availableReplicas int,
  5 unavailableReplicas int, 7 readyReplicas int
PodTemplate: 1 metadata ObjectMeta, 2 spec PodSpec
PodSpec: 2 containers *Container, 3 restartPolicy str, 4 terminationGracePeriodSeconds ?int,
  5 activeDeadlineSeconds ?int, 6 dnsPolicy str, 7 nodeSelector %str, 8 serviceAccountName str,
  9 serviceAccount str, 10 nodeName str, 11 hostNetwork bool, 12 hostPID bool, 13 hostIPC bool,
  14 securityContext Empty, 15 imagePullSecrets *Reference, 16 hostname str, 17 subdomain str,
  19 schedulerName str, 20 initContainers *Container, 24 priorityClassName str
Container: 1 name str, 2 image str, 3 command *str, 4 args *str, 5 workingDir str, 6 ports *Port,
  7 env *EnvVar, 8 resources Resources, 13 terminationMessagePath str, 14 imagePullPolicy str,
  16 stdin bool, 17 stdinOnce bool, 18 tty bool, 20 terminationMessagePolicy str
Port: 1 name str, 2 hostPort int, 3 containerPort int, 4 protocol str, 5 hostIP str
EnvVar: 1 name str, 2 value str
Resources: 1 limits %Quantity, 2 requests %Quantity
Job: 1 metadata ObjectMeta, 2 spec JobSpec, 3 status JobStatus
JobStatus: 4 active int, 5 succeeded int, 6 failed int
JobSpec: 1 parallelism ?int, 2 completions ?int, 3 activeDeadlineSeconds ?int,
  4 selector ?LabelSelector, 5 manualSelector ?bool, 6 template PodTemplate, 7 backoffLimit ?int,
  8 ttlSecondsAfterFinished ?int, 9 completionMode str, 10 suspend ?bool
CronJob: 1 metadata ObjectMeta, 2 spec CronJobSpec, 3 status Empty
CronJobSpec: 1 schedule str, 2 startingDeadlineSeconds ?int, 3 concurrencyPolicy str,
  4 suspend ?bool, 5 jobTemplate JobTemplate, 6 successfulJobsHistoryLimit ?int,
  7 failedJobsHistoryLimit ?int, 8 timeZone str
JobTemplate: 1 metadata ObjectMeta, 2 spec JobSpec
PodDisruptionBudget: 1 metadata ObjectMeta, 2 spec PodDisruptionBudgetSpec, 3 status BudgetStatus
PodDisruptionBudgetSpec: 1 minAvailable IntOrString, 2 selector ?LabelSelector,
  3 maxUnavailable IntOrString, 4 unhealthyPodEvictionPolicy str
BudgetStatus: 1 observedGeneration int, 3 disruptionsAllowed int, 4 currentHealthy int,
  5 desiredHealthy int, 6 expectedPods int
Ingress: 1 metadata ObjectMeta, 2 spec IngressSpec, 3 status ServiceStatus
IngressSpec: 1 defaultBackend Backend, 2 tls *IngressTLS, 3 rules *IngressRule,
  4 ingressClassName str
IngressTLS: 1 hosts *str, 2 secretName str
IngressRule: 1 host str, 2 .inline IngressRuleValue
IngressRuleValue: 1 http IngressPaths
IngressPaths: 1 paths *IngressPath
IngressPath: 1 path str, 2 backend Backend, 3 pathType str
Backend: 4 service BackendService
BackendService: 1 name str, 2 port BackendPort
BackendPort: 1 name str, 2 number int
Role: 1 metadata ObjectMeta, 2 rules *PolicyRule
ClusterRole: 1 metadata ObjectMeta, 2 rules *PolicyRule
PolicyRule: 1 verbs *str, 2 apiGroups *str, 3 resources *str, 4 resourceNames *str,
  5 nonResourceURLs *str
RoleBinding: 1 metadata ObjectMeta, 2 subjects *Subject, 3 roleRef RoleRef
ClusterRoleBinding: 1 metadata ObjectMeta, 2 subjects *Subject, 3 roleRef RoleRef
Subject: 1 kind str, 2 apiGroup str, 3 name str, 4 namespace str
RoleRef: 1 apiGroup str, 2 kind str, 3 name str
Eviction: 1 metadata ObjectMeta, 2 deleteOptions DeleteOptions
DeleteOptions: 1 gracePeriodSeconds ?int, 2 preconditions Preconditions, 4 propagationPolicy str,
  5 dryRun *str
Preconditions: 1 uid str, 2 resourceVersion str
SelfSubjectReview: 1 metadata ObjectMeta, 2 status ReviewStatus
ReviewStatus: 1 userInfo Empty
SelfSubjectAccessReview: 1 metadata ObjectMeta, 2 spec AccessSpec, 3 status AccessStatus
SubjectAccessReview: 1 metadata ObjectMeta, 2 spec SubjectSpec, 3 status AccessStatus
LocalSubjectAccessReview: 1 metadata ObjectMeta, 2 spec SubjectSpec, 3 status AccessStatus
AccessSpec: 1 resourceAttributes Attributes, 2 nonResourceAttributes PathAttributes
SubjectSpec: 1 resourceAttributes Attributes, 2 nonResourceAttributes PathAttributes, 3 user str,
  4 groups *str, 6 uid str
AccessStatus: 1 allowed bool, 2 reason str, 3 evaluationError str, 4 denied bool
Attributes: 1 namespace str, 2 verb str, 3 group str, 4 version str, 5 resource str,
  6 subresource str, 7 name str
PathAttributes: 1 path str, 2 verb str
SelfSubjectRulesReview: 1 metadata ObjectMeta, 2 spec RulesSpec, 3 status RulesStatus
RulesSpec: 1 namespace str
RulesStatus: 3 incomplete bool
TokenRequest: 1 metadata ObjectMeta, 2 spec TokenSpec, 3 status TokenStatus
TokenSpec: 1 audiences *str, 4 expirationSeconds ?int
TokenStatus: 1 token str, 2 expirationTimestamp Time
Envelope: 1 typeMeta TypeMeta, 2 raw bytes, 3 contentEncoding str, 4 contentType str
TypeMeta: 1 apiVersion str, 2 kind str
Empty:
"""

Message = dict[int, tuple[str, str]]


def decode(raw: bytes) -> dict[str, Any]:
    """The object of a body; 400 for bytes that are no such message, 415 for what is not read."""
    if not raw.startswith(_MAGIC):
        raise bad_request("the body is no protobuf of Kubernetes: it does not begin with k8s\\x00")
    messages = _messages()
    try:
        envelope = _message(raw[len(_MAGIC) :], "Envelope", messages)
        kind = envelope["typeMeta"]["kind"]
        if kind not in _KINDS:
            raise _unread(f"objects of kind {kind}")
        body = _message(base64.b64decode(envelope.get("raw", "")), kind, messages)
    except (IndexError, KeyError, ValueError) as failure:
        raise bad_request(f"the protobuf body cannot be decoded: {failure!r}") from failure
    body.pop("status", None)
    return {"apiVersion": envelope["typeMeta"]["apiVersion"], "kind": kind, **body}


def _unread(what: str) -> ApiError:
    message = f"the practice API does not read {what} in protobuf; send application/json"
    return ApiError(415, "UnsupportedMediaType", message)


def _messages() -> dict[str, Message]:
    found: dict[str, Message] = {}
    for block in _MESSAGES.strip().replace("\n  ", " ").splitlines():
        name, _, fields = block.partition(":")
        found[name] = {}
        for entry in filter(None, map(str.strip, fields.split(","))):
            number, field, type_ = entry.split()
            found[name][int(number)] = (field, type_)
    return found


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field on the wire; a value is a number or bytes."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(raw, at)
            if at + length > len(raw):
                raise ValueError("a field is longer than the body")
            yield number, raw[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), at


def _message(raw: bytes, name: str, messages: dict[str, Message]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(raw):
        if number not in messages[name]:
            if value in (b"", 0):
                continue  # a field that was left at its zero value
            raise _unread(f"field {number} of {name}")
        field, type_ = messages[name][number]
        kept, plain = type_.startswith("?"), type_.lstrip("?*%")
        if type_.startswith("%"):
            key, item = _entry(value, plain, messages)
            found.setdefault(field, {})[key] = item
        elif type_.startswith("*"):
            found.setdefault(field, []).append(_value(value, plain, messages))
        elif field == ".inline":
            found |= _value(value, plain, messages)
        elif (decoded := _value(value, plain, messages)) or kept:
            found[field] = decoded
    return found


def _entry(value: int | bytes, type_: str, messages: dict[str, Message]) -> tuple[str, Any]:
    parts = dict(_fields(_bytes(value)))
    return _bytes(parts.get(1, b"")).decode(), _value(parts.get(2, b""), type_, messages)


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text or a message is expected")
    return value


def _value(value: int | bytes, type_: str, messages: dict[str, Message]) -> Any:
    match type_:
        case "int" | "bool":
            if not isinstance(value, int):
                raise ValueError("text or a message where a number is expected")
            return bool(value) if type_ == "bool" else value
        case "str":
            return _bytes(value).decode()
        case "bytes":
            return base64.b64encode(_bytes(value)).decode()
        case "Quantity":
            return _bytes(dict(_fields(_bytes(value))).get(1, b"")).decode()
        case "IntOrString":
            parts = dict(_fields(_bytes(value)))
            return _bytes(parts.get(3, b"")).decode() if parts.get(1) else parts.get(2, 0)
        case "Time":
            seconds = dict(_fields(_bytes(value))).get(1, 0)
            if not isinstance(seconds, int) or seconds <= 0:
                return None
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _message(_bytes(value), type_, messages)
