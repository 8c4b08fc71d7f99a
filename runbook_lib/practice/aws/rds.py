"""RDS: an instance's states over time, changes that wait, events and logs.

Sources: RDS API reference; RDS user guide, "Viewing Amazon RDS DB instance status" and
"Applying changes immediately".
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any

from runbook_lib.practice.aws import rds_rules, rds_values
from runbook_lib.practice.aws.additions import Addition, Ask, Verb, backend, one_of
from runbook_lib.practice.aws.front import Handler
from runbook_lib.practice.aws.names import DB_INSTANCE
from runbook_lib.practice.aws.rds_orders import Order, Orders
from runbook_lib.practice.aws.wire import AwsError, Call, Document

STATUS = (
    "available", "backing-up", "configuring-enhanced-monitoring", "creating", "deleting",
    "failed", "inaccessible-encryption-credentials", "incompatible-network",
    "incompatible-parameters", "incompatible-restore", "maintenance", "modifying", "rebooting",
    "renaming", "resetting-master-credentials", "restore-error", "starting", "stopped",
    "stopping", "storage-full", "storage-optimization", "upgrading",
)  # fmt: skip
# How long a change of state takes here; minutes in life.
PACE_SECONDS = 3.0
# What waits for the maintenance window, or for a reboot, unless applied immediately.
DEFERRED = (
    "DBInstanceClass",
    "AllocatedStorage",
    "MultiAZ",
    "EngineVersion",
    "Iops",
    "StorageType",
)
EVENTS = {
    "rebooting": ("availability", "DB instance restarted"),
    "stopping": ("notification", "DB instance stopped"),
    "starting": ("notification", "DB instance started"),
    "modifying": ("configuration change", "Applying modification to database instance"),
    "storage-full": (
        "low storage",
        "Allocated storage has been exhausted for DB instance; allocate additional storage",
    ),
    "failed": ("failure", "The DB instance has failed"),
    "incompatible-parameters": (
        "failure",
        "Database instance put into incompatible-parameters. Revert the DB parameter group's "
        "changes and reboot",
    ),
}


class Rds(Addition):
    """`rds_state` puts the instance into a state; calls do so for PACE_SECONDS at least.

    `orders` tells who runs the server behind the platform's instance what it must do.
    """

    def __init__(self, ask: Ask) -> None:
        self.orders = Orders()
        super().__init__(ask)

    def reset(self) -> None:
        # By instance: status, until when (monotonic; None: for good), and the status after it.
        self._state: dict[str, tuple[str, float | None, str]] = {}
        self._pending: dict[str, Document] = {}
        self._static: dict[str, set[str]] = {}  # groups with changes that await a reboot
        self._events: list[Document] = []
        self._log: list[str] = []
        self.orders.forget()

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "rds.DescribeDBInstances": self._describe,
            "rds.CreateDBInstance": self._create,
            "rds.ModifyDBInstance": self._modify,
            "rds.RebootDBInstance": self._reboot,
            "rds.StopDBInstance": self._stop,
            "rds.StartDBInstance": self._start,
            "rds.CreateDBInstanceReadReplica": self._create_replica,
            "rds.ModifyDBParameterGroup": self._modify_parameters,
            "rds.DeleteDBParameterGroup": self._delete_parameters,
            "rds.DescribeDBParameters": self._describe_parameters,
            "rds.DescribeEvents": self._describe_events,
            "rds.DescribePendingMaintenanceActions": self._no_maintenance,
            "rds.DescribeOrderableDBInstanceOptions": self._orderable,
            "rds.DownloadDBLogFilePortion": self._download_log,
        }

    def verbs(self) -> Mapping[str, Verb]:
        return {"rds_state": self.rds_state, "rds_event": self.rds_event, "rds_log": self.rds_log}

    def rds_state(
        self,
        status: str,
        seconds: float | None = None,
        then: str = "available",
        instance: str = DB_INSTANCE,
    ) -> None:
        """The instance is in that state: for good, or after `seconds` in the state `then`."""
        one_of("status", status, STATUS)
        one_of("then", then, STATUS)
        if instance not in backend("rds").databases:
            raise ValueError(f"there is no DB instance {instance!r}")
        self._enter(instance, status, seconds, then)

    def rds_event(self, message: str, category: str = "notification", age: float = 0.0) -> None:
        """One more event of the instance, `age` seconds ago."""
        self._note(DB_INSTANCE, category, message, age)

    def rds_log(self, lines: list[str]) -> None:
        """What the instance's error log holds, instead of moto's lines."""
        self._log = list(lines)

    def _enter(self, instance: str, status: str, seconds: float | None, then: str) -> None:
        until = None if seconds is None else time.monotonic() + seconds
        self._state[instance] = (status, until, then)
        if status in EVENTS:
            self._note(instance, *EVENTS[status])

    def _note(self, instance: str, category: str, message: str, age: float = 0.0) -> None:
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
        self._events.append(
            {
                "SourceIdentifier": instance,
                "SourceType": "db-instance",
                "Message": message,
                "EventCategories": [category],
                "Date": moment,
            }
        )

    def status(self, instance: str) -> str:
        """The state now."""
        found = self._state.get(instance)
        if not found:
            return "available"
        status, until, then = found
        if until is None or time.monotonic() < until:
            return status
        return status if instance == DB_INSTANCE and self.orders.changes_state else then

    def ordered(self, order: Order, *, starts: bool) -> None:
        """The server has done so; or (`starts` false) does not start with its parameters."""
        if not starts:
            self._enter(DB_INSTANCE, "incompatible-parameters", None, "available")
        self.orders.done(order)

    def _order(self, identifier: str, action: str) -> None:
        """Tell the server; what has waited for a start holds from then on."""
        if identifier != DB_INSTANCE:
            return
        group = backend("rds").db_parameter_groups[
            self._database(identifier).db_parameter_group_name
        ]
        self.orders.give(Order(action, rds_rules.real(group.parameters.values())))

    def _database(self, identifier: str) -> Any:
        database = backend("rds").databases.get(identifier)
        if database is None:
            raise AwsError("DBInstanceNotFound", f"DBInstance {identifier} not found.", 404)
        return database

    def _alive(self, identifier: str, *wanted: str) -> None:
        """Raises AwsError where the instance is in no state in which that can be asked; RDS names
        the first."""
        self._database(identifier)
        if self.status(identifier) not in wanted:
            raise AwsError(
                "InvalidDBInstanceState",
                f"Instance {identifier} is not in {wanted[0]} state.",
            )

    def _altered(self, instance: Document) -> Document:
        name = instance["DBInstanceIdentifier"]
        instance["DBInstanceStatus"] = self.status(name)
        instance["PendingModifiedValues"] = {
            **instance.get("PendingModifiedValues", {}),
            **self._pending.get(name, {}),
        }
        for group in instance.get("DBParameterGroups", []):
            waits = name in self._static.get(group["DBParameterGroupName"], ())
            group["ParameterApplyStatus"] = "pending-reboot" if waits else "in-sync"
        return instance

    def _describe(self, call: Call) -> Document:
        answer = call.forward()
        for instance in answer["DBInstances"]:
            self._altered(instance)
        return answer

    def _answer(self, identifier: str) -> Document:
        """The instance as the answer of a call that changed it."""
        found = self.ask("rds", "DescribeDBInstances", {"DBInstanceIdentifier": identifier})
        return {"DBInstance": found["DBInstances"][0]}

    def _create(self, call: Call) -> None:
        given = call.parameters
        known = ("postgres", "mysql", "mariadb", "aurora-postgresql", "aurora-mysql")
        if given["Engine"] not in known:
            raise AwsError("InvalidParameterValue", f"Invalid DB engine: {given['Engine']}")
        rds_rules.check_class(given["DBInstanceClass"])
        rds_values.check(given)

    def _create_replica(self, call: Call) -> None:
        given = call.parameters
        self._alive(given.get("SourceDBInstanceIdentifier", ""), "available")
        if "DBInstanceClass" in given:
            rds_rules.check_class(given["DBInstanceClass"])
        rds_values.check(given)

    def _modify(self, call: Call) -> Document:
        given = dict(call.parameters)
        identifier = given["DBInstanceIdentifier"]
        self._alive(identifier, "available", "storage-full", "storage-optimization")
        if "DBInstanceClass" in given:
            rds_rules.check_class(given["DBInstanceClass"])
        rds_values.check(given, self._database(identifier))
        if "AllocatedStorage" in given:
            self._check_storage(identifier, given["AllocatedStorage"])
        if "DBParameterGroupName" in given:
            self._check_group(identifier, given["DBParameterGroupName"])
        immediately = given.pop("ApplyImmediately", False)
        waiting = {} if immediately else {k: given.pop(k) for k in DEFERRED if k in given}
        if waiting:
            self._pending[identifier] = {**self._pending.get(identifier, {}), **waiting}
        if set(given) > {"DBInstanceIdentifier"}:
            self._apply(identifier, given)
            if immediately:
                self._enter(identifier, "modifying", PACE_SECONDS, "available")
        return self._answer(identifier)

    def _apply(self, identifier: str, changes: Document) -> None:
        """moto's own modification, which knows no window."""
        group = changes.get("DBParameterGroupName")
        keyed = {key: value for key, value in changes.items() if key != "DBInstanceIdentifier"}
        from moto.core.utils import camelcase_to_underscores

        wanted = {camelcase_to_underscores(key): value for key, value in keyed.items()}
        backend("rds").modify_db_instance(identifier, wanted)
        if group:  # a new group counts after a reboot
            self._static.setdefault(group, set()).add(identifier)

    def _check_storage(self, identifier: str, size: int) -> None:
        now = self._database(identifier).allocated_storage
        if size < now:
            raise AwsError(
                "InvalidParameterCombination",
                f"Requested storage size ({size}) is less than the current storage size ({now})",
            )

    def _check_group(self, identifier: str, name: str) -> None:
        groups = backend("rds").db_parameter_groups
        if name not in groups:
            raise AwsError("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}", 404)
        database = self._database(identifier)
        family = f"{database.engine}{str(database.engine_version).split('.')[0]}"
        if groups[name].family != family:
            raise AwsError(
                "InvalidParameterCombination",
                f"The parameter group {name} with DBParameterGroupFamily {groups[name].family} "
                f"can't be used for this instance. Please use a parameter group with "
                f"DBParameterGroupFamily {family}.",
            )

    def _reboot(self, call: Call) -> Document:
        identifier = call.parameters["DBInstanceIdentifier"]
        self._alive(identifier, "available", "storage-full", "incompatible-parameters")
        self._begin_anew(identifier, "reboot")
        self._enter(identifier, "rebooting", PACE_SECONDS, "available")
        return self._answer(identifier)

    def _stop(self, call: Call) -> Document:
        identifier = call.parameters["DBInstanceIdentifier"]
        self._alive(identifier, "available")
        self._order(identifier, "stop")
        self._enter(identifier, "stopping", PACE_SECONDS, "stopped")
        return self._answer(identifier)

    def _start(self, call: Call) -> Document:
        identifier = call.parameters["DBInstanceIdentifier"]
        self._alive(identifier, "stopped", "inaccessible-encryption-credentials")
        self._begin_anew(identifier, "start")
        self._enter(identifier, "starting", PACE_SECONDS, "available")
        return self._answer(identifier)

    def _begin_anew(self, identifier: str, action: str) -> None:
        for waiting in self._static.values():
            waiting.discard(identifier)
        self._order(identifier, action)

    def _modify_parameters(self, call: Call) -> None:
        given = {"Parameters": [], **call.parameters}
        rds_rules.check_parameters(given["Parameters"])
        name = given["DBParameterGroupName"]
        users = {
            key
            for key, one in backend("rds").databases.items()
            if one.db_parameter_group_name == name
        }
        at_once = [one for one in given["Parameters"] if one.get("ApplyMethod") == "immediate"]
        if len(at_once) < len(given["Parameters"]):
            self._static.setdefault(name, set()).update(users)
        if at_once and DB_INSTANCE in users:
            self.orders.give(Order("reload", rds_rules.real(at_once)))

    def _delete_parameters(self, call: Call) -> None:
        name = call.parameters["DBParameterGroupName"]
        users = [one.db_parameter_group_name for one in backend("rds").databases.values()]
        if name in users:
            raise AwsError(
                "InvalidDBParameterGroupState",
                "One or more database instances are still members of this parameter group "
                f"{name}, so the group cannot be deleted",
            )

    def _describe_parameters(self, call: Call) -> Document:
        answer = call.forward()
        user = {one["ParameterName"]: one for one in answer["Parameters"]}
        source = call.parameters.get("Source")
        found = [rds_rules.described(name, user.get(name)) for name in rds_rules.PARAMETERS]
        answer["Parameters"] = [one for one in found if source in (None, one["Source"])]
        return answer

    def _describe_events(self, call: Call) -> Document:
        answer = call.forward()
        given = call.parameters
        # Source: DescribeEvents: the last hour, unless told otherwise.
        minutes = given.get("Duration", 60)
        start = given.get("StartTime")
        now = datetime.datetime.now(datetime.UTC)
        since = now - datetime.timedelta(minutes=minutes)
        if start is not None:
            since = start.replace(tzinfo=datetime.UTC)
        own = [
            one
            for one in self._events
            if given.get("SourceIdentifier") in (None, one["SourceIdentifier"])
            and given.get("SourceType") in (None, "db-instance")
            and one["Date"] >= since
        ]
        answer["Events"] = sorted([*answer["Events"], *own], key=_stamp)
        return answer

    def _no_maintenance(self, call: Call) -> Document:
        return {"PendingMaintenanceActions": []}

    def _orderable(self, call: Call) -> Document:
        engine = call.parameters["Engine"]
        wanted = call.parameters.get("DBInstanceClass")
        return {
            "OrderableDBInstanceOptions": [
                {"Engine": engine, "DBInstanceClass": one, "MultiAZCapable": True, "Vpc": True}
                for one in sorted(rds_rules.CLASSES)
                if wanted in (None, one)
            ]
        }

    def _download_log(self, call: Call) -> Document:
        if not self._log:
            return call.forward()
        self._database(call.parameters["DBInstanceIdentifier"])
        lines = self._log
        if "NumberOfLines" in call.parameters:
            lines = lines[-call.parameters["NumberOfLines"] :]
        return {
            "LogFileData": "".join(f"{line}\n" for line in lines),
            "Marker": "0",
            "AdditionalDataPending": False,
        }


def _stamp(event: Document) -> datetime.datetime:
    moment: datetime.datetime = event["Date"]
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
