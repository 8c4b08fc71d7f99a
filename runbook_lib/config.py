"""The platform's names, addresses and limits: typed, checked, with the runbook's own as defaults.

One file, `runbook.toml` (in the working folder or above it, or where RUNBOOK_CONFIG points), and
environment variables over it: RUNBOOK_DATABASE__HOST sets `host` of `[database]`. Secrets have no
place here: the clients read their own (KUBECONFIG, AWS_*, PGPASSWORD or a password file).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

FILE_NAME = "runbook.toml"


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the field and the mend."""


class Section(BaseModel):
    """A table of the file: immutable, and a name that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cluster(Section):
    name: str = "mlops-platform-production"
    region: str = "us-east-1"
    node_group: str = "compute-nodes"
    context: str = Field("", description="kubeconfig context; empty is the current one")


class Namespaces(Section):
    platform: str = "mlops-platform"
    models: str = "models"
    kserve: str = "kserve"
    system: str = "kube-system"
    monitoring: str = "monitoring"

    def all(self) -> list[str]:
        """Every namespace that the platform lives in."""
        return [self.platform, self.models, self.kserve, self.system, self.monitoring]


class Services(Section):
    critical: tuple[str, ...] = ("mlflow", "platform-api", "feast-feature-server")


class Database(Section):
    instance: str = "mlops-platform-production-mlflow"
    host: str = Field("", description="empty: read from the Secret below")
    port: int = Field(5432, ge=1, le=65535)
    name: str = "mlflow"
    user: str = "mlops_admin"
    sslmode: str = "prefer"
    secret: str = "mlflow-db-secret"


class Endpoints(Section):
    mlflow: str = "https://mlflow.mlops-platform.com/health"
    api: str = "https://api.mlops-platform.com/health"
    prometheus: str = "http://prometheus-kube-prometheus-prometheus.monitoring:9090"


class Limits(Section):
    """Where a judge draws its line. Percentages are of the whole; a judge's argument of the
    same name is filled from here unless the notebook gives it."""

    cpu_percent: float = Field(80, gt=0, le=100)
    memory_percent: float = Field(85, gt=0, le=100)
    disk_percent: float = Field(85, gt=0, le=100)
    connections_percent: float = Field(80, gt=0, le=100)
    probe_seconds: float = Field(8, gt=0, le=60, description="the time limit of one probe")


class Config(BaseSettings):
    """Everything that a run must know about the platform it looks at."""

    model_config = SettingsConfigDict(
        env_prefix="RUNBOOK_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    cluster: Cluster = Field(default_factory=Cluster)
    namespaces: Namespaces = Field(default_factory=Namespaces)
    services: Services = Field(default_factory=Services)
    database: Database = Field(default_factory=Database)
    endpoints: Endpoints = Field(default_factory=Endpoints)
    limits: Limits = Field(default_factory=Limits)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file over the defaults."""
        path = find_file()
        files = (TomlConfigSettingsSource(settings_cls, path),) if path else ()
        return (init_settings, env_settings, *files)


def find_file() -> Path | None:
    """The configuration file in force, or None. Raises ConfigError if RUNBOOK_CONFIG is wrong."""
    if named := os.environ.get("RUNBOOK_CONFIG"):
        if not Path(named).is_file():
            raise ConfigError(f"RUNBOOK_CONFIG names {named}, and there is no such file.")
        return Path(named)
    here = Path.cwd()
    return next((d / FILE_NAME for d in (here, *here.parents) if (d / FILE_NAME).is_file()), None)


def variables() -> list[str]:
    """Every environment variable that sets a name of the configuration."""
    return [
        f"RUNBOOK_{section}__{name}".upper()
        for section, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name in field.annotation.model_fields
    ]


def _refuse_strays() -> None:
    """Refuse a variable that is nearly one of ours: pydantic-settings passes over it.

    Only what is near: in a pod, a Service called runbook sets RUNBOOK_SERVICE_HOST and the like.
    """
    known = variables()
    for name in os.environ:
        if not name.startswith("RUNBOOK_") or name in known:
            continue
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
            raise ConfigError(f"{name} sets nothing. Did you mean {near[0]}?")


def load() -> Config:
    """Read the configuration. Raises ConfigError with one line for each field at fault."""
    where = find_file() or "the environment"
    _refuse_strays()
    try:
        return Config()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not valid TOML: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}.") from None
    except SettingsError as error:
        raise ConfigError(f"A RUNBOOK_… variable cannot be read: {error}.") from None
    except ValidationError as error:
        said = {"extra_forbidden": "there is no such name"}
        faults = [
            f"{'.'.join(map(str, e['loc']))}: {said.get(e['type'], e['msg'].lower())}"
            for e in error.errors()
        ]
        raise ConfigError(
            f"The configuration ({where} and RUNBOOK_… variables) is refused: "
            + "; ".join(faults)
            + ". README.md lists every name and its default."
        ) from None
