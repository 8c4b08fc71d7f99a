"""Load balancer: why targets are unhealthy.

Source: Elastic Load Balancing API reference (2015-12-01), TargetHealth.
"""

from __future__ import annotations

from collections.abc import Mapping

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


class LoadBalancing(Addition):
    """`target_health` says why which target is out."""

    def __init__(self, ask: Ask, metrics: Metrics) -> None:
        self.metrics = metrics
        super().__init__(ask)

    def reset(self) -> None:
        # By target group's ARN, then target: reason and description.
        self._health: dict[str, dict[str, tuple[str, str]]] = {}

    def handlers(self) -> Mapping[str, Handler]:
        return {"elbv2.DescribeTargetHealth": self._describe_target_health}

    def verbs(self) -> Mapping[str, Verb]:
        return {"target_health": self.target_health}

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
        balancer = next(iter(backend("elbv2").load_balancers)).split("loadbalancer/")[1]
        dimensions = {"TargetGroup": arn.rsplit(":", 1)[1], "LoadBalancer": balancer}
        for name, level in (("HealthyHostCount", targets - out), ("UnHealthyHostCount", out)):
            calm = not out
            self.metrics.metric(
                "AWS/ApplicationELB",
                name,
                dimensions,
                level=None if calm else float(level),
                since=since,
                unit="Count",
            )

    def _describe_target_health(self, call: Call) -> Document:
        answer = call.forward()
        health = self._health.get(call.parameters["TargetGroupArn"], {})
        for one in answer["TargetHealthDescriptions"]:
            if one["Target"]["Id"] in health:
                reason, description = health[one["Target"]["Id"]]
                one["TargetHealth"] = {
                    "State": REASONS[reason][0],
                    "Reason": reason,
                    "Description": description,
                }
        return answer
