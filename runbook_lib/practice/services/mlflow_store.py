"""MLflow's tables, read and written as its own store does it; answers in its API's shapes.

Every function takes a connection whose rows are dicts, and raises MlflowError for what MLflow
refuses, and psycopg.Error for what the server does.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.services.mlflow_errors import HINT, MlflowError, invalid, required

if TYPE_CHECKING:
    from runbook_lib.practice.services.pool import Connection

Row = dict[str, Any]

_EXPERIMENT = (
    "SELECT experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
    " last_update_time FROM experiments"
)
_RUN = (
    "SELECT run_uuid, name, status, start_time, end_time, user_id, lifecycle_stage, artifact_uri,"
    " experiment_id FROM runs"
)
_STAGES = {"ACTIVE_ONLY": ["active"], "DELETED_ONLY": ["deleted"], "ALL": ["active", "deleted"]}
RUN_FIELDS = ("status", "end_time", "run_name")


# experiments


def experiment(row: Row) -> Row:
    return {
        "experiment_id": str(row["experiment_id"]),
        "name": row["name"],
        "artifact_location": row["artifact_location"],
        "lifecycle_stage": row["lifecycle_stage"],
        "last_update_time": row["last_update_time"],
        "creation_time": row["creation_time"],
        "workspace": "default",
    }


async def find_experiment(connection: Connection, identity: str) -> Row:
    try:
        number = int(identity)
    except ValueError:
        raise invalid(
            f"Invalid experiment ID '{identity}'. Experiment ID must be a valid integer."
        ) from None
    found = await _one(connection, f"{_EXPERIMENT} WHERE experiment_id = %s", [number])
    if found is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={identity} exists")
    return experiment(found)


async def experiment_by_name(connection: Connection, name: str) -> Row:
    found = await _one(connection, f"{_EXPERIMENT} WHERE name = %s", [name])
    if found is None:
        raise MlflowError(
            "RESOURCE_DOES_NOT_EXIST", f"Could not find experiment with name '{name}'"
        )
    return experiment(found)


async def search_experiments(
    connection: Connection, stages: str, limit: int, offset: int
) -> tuple[list[Row], bool]:
    """Experiments, the youngest first, and whether there are more."""
    rows = await _all(
        connection,
        f"{_EXPERIMENT} WHERE lifecycle_stage = ANY(%s)"
        " ORDER BY creation_time DESC, experiment_id DESC LIMIT %s OFFSET %s",
        [_stages(stages), limit + 1, offset],
    )
    return [experiment(row) for row in rows[:limit]], len(rows) > limit


async def create_experiment(connection: Connection, name: str, root: str) -> str:
    from psycopg.errors import UniqueViolation

    now = _now()
    try:
        made = await _one(
            connection,
            "INSERT INTO experiments (name, lifecycle_stage, creation_time, last_update_time)"
            " VALUES (%s, 'active', %s, %s) RETURNING experiment_id",
            [name, now, now],
        )
    except UniqueViolation as error:
        raise MlflowError(
            "RESOURCE_ALREADY_EXISTS",
            f"Experiment(name={name}) already exists. "
            f"Error: (psycopg.errors.UniqueViolation) {error}",
        ) from None
    assert made is not None
    identity = str(made["experiment_id"])
    await connection.execute(
        "UPDATE experiments SET artifact_location = %s WHERE experiment_id = %s",
        [f"{root.rstrip('/')}/{identity}", made["experiment_id"]],
    )
    return identity


async def delete_experiment(connection: Connection, identity: str) -> None:
    found = await find_experiment(connection, identity)
    await connection.execute(
        "UPDATE experiments SET lifecycle_stage = 'deleted', last_update_time = %s"
        " WHERE experiment_id = %s",
        [_now(), int(found["experiment_id"])],
    )


# runs


async def create_run(connection: Connection, given: Mapping[str, Any]) -> Row:
    owner = await find_experiment(connection, str(required(given, "experiment_id")))
    if owner["lifecycle_stage"] != "active":
        raise invalid(
            f"The experiment {owner['experiment_id']} must be in the 'active' state. "
            f"Current state is {owner['lifecycle_stage']}."
        )
    identity = uuid.uuid4().hex
    tags = {tag["key"]: tag["value"] for tag in given.get("tags") or []}
    name = given.get("run_name") or tags.get("mlflow.runName") or f"run-{identity[:6]}"
    tags["mlflow.runName"] = name
    await connection.execute(
        "INSERT INTO runs (run_uuid, name, status, start_time, user_id, lifecycle_stage,"
        " artifact_uri, experiment_id) VALUES (%s, %s, 'RUNNING', %s, %s, 'active', %s, %s)",
        [
            identity,
            name,
            given.get("start_time") or 0,
            given.get("user_id") or "",
            f"{owner['artifact_location']}/{identity}/artifacts",
            int(owner["experiment_id"]),
        ],
    )
    for key, value in tags.items():
        await _set_tag(connection, identity, key, value)
    made = await find_run(connection, identity)
    del made["outputs"]  # a new run is given without
    return made


async def find_run(connection: Connection, identity: str) -> Row:
    found = await _run_row(connection, identity)
    return (await _with_data(connection, [found]))[0]


async def search_runs(
    connection: Connection, experiments: list[int], stages: str, limit: int, offset: int
) -> tuple[list[Row], bool]:
    """Runs, the youngest first, and whether there are more."""
    rows = await _all(
        connection,
        f"{_RUN} WHERE experiment_id = ANY(%s) AND lifecycle_stage = ANY(%s)"
        " ORDER BY start_time DESC, run_uuid LIMIT %s OFFSET %s",
        [experiments, _stages(stages), limit + 1, offset],
    )
    return await _with_data(connection, rows[:limit]), len(rows) > limit


async def update_run(connection: Connection, given: Mapping[str, Any]) -> Row:
    identity = str(required(given, "run_id"))
    row = await _run_row(connection, identity)
    new = {name: given.get(name) for name in RUN_FIELDS}
    await connection.execute(
        "UPDATE runs SET status = coalesce(%s, status), end_time = coalesce(%s, end_time),"
        " name = coalesce(%s, name) WHERE run_uuid = %s",
        [*new.values(), row["run_uuid"]],
    )
    return _info(await _run_row(connection, identity))


async def log_batch(connection: Connection, identity: str, given: Mapping[str, Any]) -> None:
    """Write metrics, params and tags of one run, all or nothing."""
    await _run_row(connection, identity)
    async with connection.transaction():
        for metric in given.get("metrics") or []:
            await _log_metric(connection, identity, metric)
        for param in given.get("params") or []:
            await connection.execute(
                "INSERT INTO params VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [param["key"], param["value"], identity],
            )
        for tag in given.get("tags") or []:
            await _set_tag(connection, identity, tag["key"], tag["value"])


async def _log_metric(connection: Connection, identity: str, metric: Mapping[str, Any]) -> None:
    for name in ("key", "value", "timestamp"):
        required(metric, name)
    try:
        value = float(metric["value"])  # JSON has "NaN" and "Infinity" as words only
    except (TypeError, ValueError):
        raise invalid(f"Invalid value {metric['value']!r} for metric '{metric['key']}'") from None
    is_nan = math.isnan(value)
    stored = 0.0 if is_nan else value
    row = [metric["key"], stored, metric["timestamp"], identity, metric.get("step") or 0, is_nan]
    await connection.execute(
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        row,
    )
    await connection.execute(
        "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (key, run_uuid) DO UPDATE SET"
        " value = excluded.value, timestamp = excluded.timestamp, step = excluded.step,"
        " is_nan = excluded.is_nan WHERE excluded.step >= latest_metrics.step",
        row,
    )


async def _set_tag(connection: Connection, identity: str, key: str, value: str) -> None:
    await connection.execute(
        "INSERT INTO tags VALUES (%s, %s, %s)"
        " ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
        [key, value, identity],
    )


async def _run_row(connection: Connection, identity: str) -> Row:
    found = await _one(connection, f"{_RUN} WHERE run_uuid = %s", [identity])
    if found is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"Run with id={identity} not found")
    return found


def _info(row: Row) -> Row:
    info = {
        "run_uuid": row["run_uuid"],
        "experiment_id": str(row["experiment_id"]),
        "run_name": row["name"],
        "user_id": row["user_id"],
        "status": row["status"],
        "start_time": row["start_time"],
        "end_time": row["end_time"],
        "artifact_uri": row["artifact_uri"],
        "lifecycle_stage": row["lifecycle_stage"],
        "run_id": row["run_uuid"],
    }
    return {name: value for name, value in info.items() if value is not None}


async def _with_data(connection: Connection, rows: list[Row]) -> list[Row]:
    """Runs as the API gives them; lists that are empty are left out, as protobuf does."""
    names = [row["run_uuid"] for row in rows]
    data: dict[str, Row] = {name: {} for name in names}
    for kind, columns, table in (
        ("metrics", "key, value, timestamp, step, is_nan", "latest_metrics"),
        ("params", "key, value", "params"),
        ("tags", "key, value", "tags"),
    ):
        found = await _all(
            connection,
            f"SELECT {columns}, run_uuid FROM {table} WHERE run_uuid = ANY(%s) ORDER BY key",
            [names],
        )
        for one in found:
            identity = one.pop("run_uuid")
            if one.pop("is_nan", False):
                one["value"] = "NaN"
            data[identity].setdefault(kind, []).append(one)
    return [
        {"info": _info(row), "data": data[row["run_uuid"]], "inputs": {}, "outputs": {}}
        for row in rows
    ]


# the model registry


async def registered_models(
    connection: Connection, limit: int, offset: int
) -> tuple[list[Row], bool]:
    rows = await _all(
        connection,
        "SELECT name, creation_time, last_updated_time FROM registered_models"
        " ORDER BY name LIMIT %s OFFSET %s",
        [limit + 1, offset],
    )
    latest = await latest_versions(connection, [row["name"] for row in rows])
    found = []
    for row in rows[:limit]:
        model = {
            "name": row["name"],
            "creation_timestamp": row["creation_time"],
            "last_updated_timestamp": row["last_updated_time"],
        }
        if versions := [one for one in latest if one["name"] == row["name"]]:
            model["latest_versions"] = versions
        found.append(model)
    return found, len(rows) > limit


async def require_model(connection: Connection, name: str) -> None:
    query = "SELECT name FROM registered_models WHERE name = %s"
    if await _one(connection, query, [name]) is None:
        raise MlflowError("RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found")


async def latest_versions(connection: Connection, names: Iterable[str]) -> list[Row]:
    """The latest version of each stage of these models."""
    rows = await _all(
        connection,
        "SELECT DISTINCT ON (name, current_stage) name, version, creation_time,"
        " last_updated_time, description, user_id, current_stage, source, run_id, status"
        " FROM model_versions WHERE name = ANY(%s)"
        " ORDER BY name, current_stage, version DESC",
        [list(names)],
    )
    return [
        {
            "name": row["name"],
            "version": str(row["version"]),
            "creation_timestamp": row["creation_time"],
            "last_updated_timestamp": row["last_updated_time"],
            "current_stage": row["current_stage"],
            "description": row["description"] or "",
            "source": row["source"],
            "run_id": row["run_id"] or "",
            "status": row["status"],
        }
        for row in rows
    ]


async def schema_version(connection: Connection) -> str:
    found = await _one(connection, "SELECT version_num FROM alembic_version", [])
    return str(found["version_num"]) if found else "None"


def _stages(wanted: str) -> list[str]:
    if wanted not in _STAGES:
        raise invalid(f"Invalid value \"{wanted}\" for parameter 'view_type' supplied. {HINT}")
    return _STAGES[wanted]


async def _one(connection: Connection, query: Any, values: list[Any]) -> Row | None:
    return await (await connection.execute(query, values)).fetchone()


async def _all(connection: Connection, query: Any, values: list[Any]) -> list[Row]:
    return await (await connection.execute(query, values)).fetchall()


def _now() -> int:
    return int(time.time() * 1000)
