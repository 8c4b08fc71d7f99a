"""The routes of MLflow's API: what each asks of the database, once its parameters hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.practice.services import mlflow_store as tables
from runbook_lib.practice.services.mlflow_errors import invalid, limit_of, offset_of, required

if TYPE_CHECKING:
    from runbook_lib.practice.services.pool import Connection

DESTINATION = "s3://mlops-platform-production-artifacts/"

# From the request's parameters and the container's variables to what is to be done with a
# connection; raises MlflowError for parameters, before a database is asked.
Work = Callable[["Connection"], Awaitable[Any]]
Handler = Callable[[Mapping[str, Any], Mapping[str, str]], Work]


def _search_experiments(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    _refuse_filters(given)
    limit, offset = limit_of(given, 0, 50_000), offset_of(given)
    stages = given.get("view_type") or "ACTIVE_ONLY"

    async def work(connection: Connection) -> Any:
        found, more = await tables.search_experiments(connection, stages, limit, offset)
        return _listing("experiments", found, offset + limit if more else 0)

    return work


def _search_runs(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    _refuse_filters(given)
    limit, offset = limit_of(given, 1000, 50_000), offset_of(given)
    stages = given.get("run_view_type") or "ACTIVE_ONLY"
    experiments = [int(one) for one in given.get("experiment_ids") or [] if str(one).isdigit()]

    async def work(connection: Connection) -> Any:
        found, more = await tables.search_runs(connection, experiments, stages, limit, offset)
        return _listing("runs", found, offset + limit if more else 0)

    return work


def _search_models(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    _refuse_filters(given)
    limit, offset = limit_of(given, 100, 1000), offset_of(given)

    async def work(connection: Connection) -> Any:
        found, more = await tables.registered_models(connection, limit, offset)
        return _listing("registered_models", found, offset + limit if more else 0)

    return work


def _get_experiment(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    identity = str(required(given, "experiment_id"))

    async def work(connection: Connection) -> Any:
        return {"experiment": await tables.find_experiment(connection, identity)}

    return work


def _get_by_name(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    name = required(given, "experiment_name")

    async def work(connection: Connection) -> Any:
        return {"experiment": await tables.experiment_by_name(connection, name)}

    return work


def _create_experiment(given: Mapping[str, Any], env: Mapping[str, str]) -> Work:
    root = env.get("MLFLOW_ARTIFACTS_DESTINATION", DESTINATION)
    name = required(given, "name")

    async def work(connection: Connection) -> Any:
        return {"experiment_id": await tables.create_experiment(connection, name, root)}

    return work


def _delete_experiment(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    identity = str(required(given, "experiment_id"))

    async def work(connection: Connection) -> Any:
        await tables.delete_experiment(connection, identity)
        return {}

    return work


def _create_run(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    async def work(connection: Connection) -> Any:
        return {"run": await tables.create_run(connection, given)}

    return work


def _update_run(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    async def work(connection: Connection) -> Any:
        return {"run_info": await tables.update_run(connection, given)}

    return work


def _get_run(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    identity = str(required(given, "run_id"))

    async def work(connection: Connection) -> Any:
        return {"run": await tables.find_run(connection, identity)}

    return work


def _log_metric(given: Mapping[str, Any], env: Mapping[str, str]) -> Work:
    for name in ("key", "value", "timestamp"):
        required(given, name)
    return _log_batch({"run_id": given.get("run_id"), "metrics": [given]}, env)


def _log_batch(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    identity = str(required(given, "run_id"))

    async def work(connection: Connection) -> Any:
        await tables.log_batch(connection, identity, given)
        return {}

    return work


def _latest_versions(given: Mapping[str, Any], _: Mapping[str, str]) -> Work:
    name = required(given, "name")

    async def work(connection: Connection) -> Any:
        await tables.require_model(connection, name)
        return _listing("model_versions", await tables.latest_versions(connection, [name]), 0)

    return work


ROUTES: dict[str, tuple[tuple[str, ...], Handler]] = {
    "experiments/search": (("GET", "POST"), _search_experiments),
    "experiments/get": (("GET",), _get_experiment),
    "experiments/get-by-name": (("GET",), _get_by_name),
    "experiments/create": (("POST",), _create_experiment),
    "experiments/delete": (("POST",), _delete_experiment),
    "runs/create": (("POST",), _create_run),
    "runs/update": (("POST",), _update_run),
    "runs/get": (("GET",), _get_run),
    "runs/search": (("POST",), _search_runs),
    "runs/log-metric": (("POST",), _log_metric),
    "runs/log-batch": (("POST",), _log_batch),
    "registered-models/search": (("GET",), _search_models),
    "registered-models/get-latest-versions": (("GET", "POST"), _latest_versions),
    "artifacts/list": (("GET",), _get_run),
}


def _refuse_filters(given: Mapping[str, Any]) -> None:
    for name in ("filter", "order_by"):
        if given.get(name):
            raise invalid(f"the practice platform's MLflow serves no {name} in searches")


def _listing(name: str, found: list[dict[str, Any]], following: int) -> dict[str, Any]:
    """A page of a search; what is empty is left out, as protobuf does."""
    body: dict[str, Any] = {name: found} if found else {}
    return {**body, "next_page_token": str(following)} if following else body
