"""The demonstration: break a platform for real, let the runbooks find it, leave the reports.

`python -m runbook_lib.practice.demo [OUTPUTS]` ends with 0 if every fault was named and no
secret of the platform stands in the outputs, else with 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from runbook_lib import catalogue, runner
from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.platform import Platform
from runbook_lib.practice.scenario import Scenario
from runbook_lib.report import Report

Done = tuple[Path, Report]
SHOWN = (
    "rds-connection-exhaustion/leaking-client",
    "nodes-not-ready/full-disk",
    "crashloopbackoff/missing-secret-key",
)
console = Console(soft_wrap=True, highlight=False)


def main(outputs: Path = Path("outputs")) -> int:
    """Run the demonstration and say what it found; returns the exit code."""
    began = time.monotonic()
    say("Starting a practice platform: PostgreSQL, Redis, an AWS API, a Kubernetes API, services …")
    with Platform.start() as platform:
        scenarios.wait_until_healthy(platform)
        os.environ.update(platform.env)
        expected = broken(platform)
        say("\nHealth check:")
        health = finished("health-check", outputs)
        pointed = [r for r in points_at(health[1]) if r in expected]
        say(f"\nIt points at {', '.join(pointed) or 'no runbook'}. Running them side by side:")
        reports = side_by_side(pointed, outputs)
        missed = [one for r, one in expected.items() if not named(reports.get(r), one)]
        leaked = leaks(outputs, platform.secrets)
    tell(health, reports, outputs)
    for one in missed:
        wanted = f"{one.finds.cause} about {one.finds.about}"
        say(f"[red]NOT FOUND[/red]: {one.runbook} should have named {wanted}.")
    if leaked:
        say(f"[red]SECRET[/red]: a secret of the platform stands in {leaked}.")
    else:
        say("No secret of the platform stands in any byte of the outputs.")
    say(f"Done in {time.monotonic() - began:.0f} s. Open {outputs / 'index.html'}")
    return 1 if missed or leaked else 0


def broken(platform: Platform) -> dict[str, Scenario]:
    """Break three things; returns what each runbook must find."""
    found = [scenarios.find(name) for name in SHOWN]
    for one in found:
        scenarios.break_platform(platform, one)
        say(f"  broke: {one.title}")
    return {one.runbook: one for one in found}


def finished(name: str, outputs: Path) -> Done:
    """Run one runbook headlessly and say how it ended. Raises KeyboardInterrupt if it was ended."""
    folder, report = runner.run(catalogue.find(name), {}, outputs)
    if report.ending == "terminated":
        raise KeyboardInterrupt
    say(f"  {name}: [bold]{report.verdict.outcome}[/bold]")
    return folder, report


def side_by_side(names: list[str], outputs: Path) -> dict[str, Done]:
    """Run several runbooks at once, each by the command line; none outlives this call."""
    command = [sys.executable, "-m", "runbook_lib.cli", "run", "--json", "--output-dir"]
    running = {
        name: subprocess.Popen([*command, str(outputs), name], stdout=subprocess.PIPE, text=True)
        for name in names
    }
    reports = {}
    try:
        for name, one in running.items():
            printed, _ = one.communicate()
            report = Report.model_validate_json(printed)
            say(f"  {name}: [bold]{report.verdict.outcome}[/bold]")
            reports[name] = (outputs / report.run, report)
    finally:
        for one in running.values():
            if one.poll() is None:
                one.terminate()
                one.communicate()
    return reports


def points_at(report: Report) -> list[str]:
    """The runbooks that a report's failing findings name, each once, those that exist."""
    known = {one.id for one in catalogue.runbooks()}
    failing = [*report.verdict.causes, *report.verdict.symptoms, *report.verdict.warnings]
    return [r for r in dict.fromkeys(f.runbook for f in failing) if r in known]


def named(done: Done | None, broken: Scenario) -> bool:
    """Whether one cause of the report is the scenario's, about what the scenario broke."""
    wanted = broken.finds
    causes = done[1].verdict.causes if done else []
    return any(one.id == wanted.cause and re.search(wanted.about, one.about) for one in causes)


def leaks(outputs: Path, secrets: list[str]) -> list[str]:
    """The files below `outputs` in which a secret's bytes stand."""
    values = [secret.encode() for secret in secrets]
    files = [path for path in outputs.rglob("*") if path.is_file()]
    return [str(p) for p in files if any(v in p.read_bytes() for v in values)]


def tell(health: Done, reports: dict[str, Done], outputs: Path) -> None:
    """Print what was found and where to look."""
    say("\n[bold]What was found[/bold]")
    for runbook, (folder, report) in {"health-check": health, **reports}.items():
        say(f"\n[bold]{runbook}[/bold]: {report.verdict.outcome}  {folder_name(folder)}")
        for cause in report.verdict.causes:
            console.print(f"  • {cause.summary}", markup=False)
    say("")


def folder_name(folder: Path) -> str:
    """The report's path as one would open it from here."""
    here = Path.cwd()
    return str(
        (folder.relative_to(here) if folder.is_relative_to(here) else folder) / "report.html"
    )


def say(text: str) -> None:
    """Print a line of our own words (console markup allowed)."""
    console.print(text)


if __name__ == "__main__":
    try:
        sys.exit(main(*map(Path, sys.argv[1:2])))
    except KeyboardInterrupt:
        say("Stopped; nothing of it is left running.")
        sys.exit(130)
