"""Load balancer: which targets are unhealthy, and why.

Source: Elastic Load Balancing API reference (2015-12-01), TargetHealth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.practice.aws.additions import Addition, Ask, Verb, backend
from runbook_lib.practice.aws.cloudwatch import Metrics
from runbook_lib.practice.aws.ec2 import instance_of
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.wire import Call, Document

# Reason: the state that it goes with, and AWS's description.
REASONS = {
    "Elb.RegistrationInProgress": ("initial", "Target registration is in progress"),
    "Elb.InitialHealthChecking": ("initial", "Initial health checks in progress"),
    "Target.ResponseCodeMismatch": ("unhealthy", "Health checks failed with these codes: [502]"),
    "Target.Timeout": ("unhealthy", "Request timed out"),
    "Target.FailedHealthChecks": ("unhealthy", "Health checks failed"),
    "Elb.InternalError": (
        "unhealthy",
        "Health checks failed due to an internal error on the load balancer",
    ),
    "Target.NotInUse": (
        "unused",
        "Target group is not configured to receive traffic from the load balancer",
    ),
    "Target.InvalidState": ("unused", "Target is in the stopped state"),
    "Target.DeregistrationInProgress": ("draining", "Target deregistration is in progress"),
    "Target.HealthCheckDisabled": ("unavailable", "Health checks are disabled"),
}


Health = tuple[str, str]  # reason and description of a target that is out


@dataclass(frozen=True)
class TargetGroup:
    """What is checked of a target group, and how."""

    targets: Mapping[str, int]  # port, by the instance's id
    path: str
    seconds: float
    codes: str  # "200", "200,202" or "200-299"

    def takes(self, status: int) -> bool:
        bounds = [one.partition("-") for one in self.codes.split(",")]
        return any(int(low) <= status <= int(high or low) for low, _, high in bounds)


class LoadBalancing(Addition):
    """A target is as the last health check has found it, or as `target_health` says."""

    def __init__(self, ask: Ask, metrics: Metrics) -> None:
        self.metrics = metrics
        # What the checks have found out, by target group's ARN, then target.
        self._found: dict[str, Mapping[str, Health]] = {}
        super().__init__(ask)

    def reset(self) -> None:
        # By target group's ARN, then target: reason and description.
        self._health: dict[str, dict[str, Health]] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {"elbv2.DescribeTargetHealth": self._describe_target_health}

    def verbs(self) -> Mapping[str, Verb]:
        return {"target_health": self.target_health}

    def group(self, arn: str) -> TargetGroup | None:
        """None where it is no more."""
        if arn not in backend("elbv2").target_groups:
            return None
        group = _group(arn)
        return TargetGroup(
            {id_: int(one["Port"]) for id_, one in group.targets.items()},
            group.health_check_path or "/",
            float(group.health_check_timeout_seconds),
            group.matcher["HttpCode"],
        )

    def checked(self, arn: str, out: Mapping[str, Health]) -> None:
        """What a health check has found: why which targets are out; the others are healthy."""
        self._found[arn] = out

    def count_hosts(self, arn: str) -> None:
        """Let the group's host counts in CloudWatch be what the checks find."""
        for name, wanted in (("HealthyHostCount", True), ("UnHealthyHostCount", False)):

            def count(wanted: bool = wanted) -> float | None:
                return self._hosts(arn, healthy=wanted)

            self.metrics.measure("AWS/ApplicationELB", name, _dimensions(arn), count)

    def _hosts(self, arn: str, *, healthy: bool) -> float | None:
        if arn not in backend("elbv2").target_groups:
            return None
        group, out = _group(arn), self._found.get(arn, {})
        # Of a machine that is stopped the target is neither.
        used = [one for one in group.targets.values() if _is_used(group, one)]
        return float(sum((one["Id"] not in out) == healthy for one in used))

    def target_health(
        self,
        target_group: str,
        reason: str | None = "Target.FailedHealthChecks",
        node: str | None = None,
        description: str | None = None,
        since: float = 600.0,
    ) -> None:
        """Targets of a group (`mlflow` or `platform-api`, or its full name), of one node or of
        all, are out for `reason` (a key of REASONS; None: healthy), since so many seconds in
        CloudWatch. The state follows from the reason."""
        if reason is not None and reason not in REASONS:
            raise ValueError(f"reason is one of {', '.join(REASONS)}, not {reason!r}")
        for group in backend("elbv2").target_groups.values():
            if group.name in (target_group, f"k8s-{target_group}"):
                break
        else:
            raise ValueError(f"there is no target group {target_group!r}")
        health = self._health.setdefault(group.arn, {})
        targets = [instance_of(node).id] if node else list(group.targets)
        if unknown := [one for one in targets if one not in group.targets]:
            raise ValueError(f"{unknown[0]} is no target of {group.name}")
        for target in targets:
            health.pop(target, None)
            if reason is not None:
                health[target] = (reason, description or REASONS[reason][1])
        self._publish(group.arn, len(group.targets), len(health), since)

    def _publish(self, arn: str, targets: int, out: int, since: float) -> None:
        for name, level in (("HealthyHostCount", targets - out), ("UnHealthyHostCount", out)):
            calm = not out
            self.metrics.metric(
                "AWS/ApplicationELB",
                name,
                _dimensions(arn),
                level=None if calm else float(level),
                since=since,
                unit="Count",
            )

    def _describe_target_health(self, call: Call) -> Document:
        answer = call.forward()
        arn = call.parameters["TargetGroupArn"]
        said, found = self._health.get(arn, {}), self._found.get(arn, {})
        for one in answer["TargetHealthDescriptions"]:
            out = said.get(one["Target"]["Id"])
            if out is None and one["TargetHealth"]["State"] == "healthy":
                out = found.get(one["Target"]["Id"])
            if out is not None:
                reason, description = out
                one["TargetHealth"] = {
                    "State": REASONS[reason][0],
                    "Reason": reason,
                    "Description": description,
                }
        return answer


def _group(arn: str) -> Any:
    return backend("elbv2").target_groups[arn]


def balancer_name() -> str:
    """Of the account's one load balancer, as CloudWatch's dimensions have it.

    Raises ValueError where there are none or several (never StopIteration: a future that is to
    hold one is never done).
    """
    (arn,) = backend("elbv2").load_balancers
    return str(arn).split("loadbalancer/")[1]


def _is_used(group: Any, target: Document) -> bool:
    return bool(group.health_for(target, group.ec2_backend).status == "healthy")


def _dimensions(arn: str) -> dict[str, str]:
    return {"TargetGroup": arn.rsplit(":", 1)[1], "LoadBalancer": balancer_name()}
