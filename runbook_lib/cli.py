"""The command line: list, show, run, report, practice. Progress on stderr, results on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from runbook_lib import catalogue
from runbook_lib.catalogue import Refused
from runbook_lib.practice import command as practice
from runbook_lib.practice.platform import PracticeError

if TYPE_CHECKING:
    from runbook_lib.report import Report

EXIT_CODES = """
Exit codes of a run: 0 healthy or recovered, 10 cause found, 11 inconclusive, 2 input refused,
20 notebook raised, 21 kernel died, 22 time limit, 23 terminated.
"""

FINDINGS = (10, 11)
FAILED, TERMINATED = 20, 23
PRACTICE_FAILED = 3
FIELDS = ("id", "title", "section", "severity", "alerts", "time_limit", "related")

app = typer.Typer(
    help="Run a troubleshooting runbook; each run becomes an incident report." + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(practice.app, name="practice")
out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True)
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of words")]


@app.command("list")
def list_runbooks(as_json: AsJson = False) -> None:
    """Every runbook: its id, severity, section and title."""
    found = catalogue.runbooks()
    if as_json:
        out.print_json(json.dumps([{key: getattr(one, key) for key in FIELDS} for one in found]))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("runbook", "severity", "section", "title"):
        # An id that is cut cannot be copied.
        table.add_column(column, no_wrap=column == "runbook", overflow="fold")
    for one in found:
        table.add_row(one.id, one.severity, one.section, one.title)
    out.print(table)


@app.command()
def show(name: str, as_json: AsJson = False) -> None:
    """One runbook: what it is for, its alerts and its parameters."""
    one = catalogue.find(name)
    parameters = one.parameters()
    if as_json:
        described = {key: getattr(one, key) for key in FIELDS}
        out.print_json(json.dumps(described | {"parameters": [vars(p) for p in parameters]}))
        return
    out.print(f"[bold]{one.title}[/bold]  ({one.id})")
    out.print(f"{one.section}, {one.severity}; time limit {one.time_limit} s")
    out.print(f"alerts: {', '.join(one.alerts) or 'none'}")
    out.print(f"related: {', '.join(one.related) or 'none'}")
    for p in parameters:
        default = "required" if p.required else f"default {p.default}"
        out.print(f"  -p {p.name}=…  {p.type}, {default}: {p.help}", markup=False)


@app.command(epilog=EXIT_CODES)
def run(
    name: str,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="key=value; see `runbook show`")
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="where the run's folder is made")] = Path(
        "outputs"
    ),
    replay: Annotated[
        Path | None,
        typer.Option(help="judge a run's folder or a case file instead of the live systems"),
    ] = None,
    as_json: AsJson = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="exit 0 instead of 10 and 11, for schedulers")
    ] = False,
) -> None:
    """Execute a runbook headlessly and write its incident report."""
    runbook = catalogue.find(name)
    values = catalogue.check_parameters(runbook, _split(parameter or []))
    from runbook_lib import runner  # it imports the renderer, which the other commands can spare
    from runbook_lib.report import exit_code

    try:
        folder, written = runner.run(runbook, values, output_dir, replay=replay)
    except runner.ReportLost as lost:
        err.print(f"report lost: {lost}", markup=False)
        raise typer.Exit(FAILED) from None
    shown = _relative(folder)
    if as_json:
        typer.echo((folder / "report.json").read_text())
    else:
        out.print(f"{written.verdict.outcome.upper()}: {written.verdict.sentence}", markup=False)
        for cause in written.verdict.causes:
            out.print(f"  cause: {cause.about}: {cause.summary}", markup=False)
            out.print(f"  next:  {cause.hint}", markup=False)
        for reason, ids in _blind(written).items():
            out.print(f"  could not look ({', '.join(ids)}): {reason}", markup=False)
        out.print(f"report: {shown / 'report.html'}", markup=False)
    code = exit_code(written)
    # Whatever was found is fine to a scheduler; a run that died is not.
    raise typer.Exit(0 if exit_zero and code in FINDINGS else code)


@app.command()
def report(folder: Path) -> None:
    """Render a run's report again from its journal, even of a run that was cut off.

    Exits as that run did, or would have.
    """
    from runbook_lib import report as renderer

    if not (folder / "journal.jsonl").is_file():
        raise Refused(f"{folder} is no run: it has no journal.jsonl.")
    try:
        written = renderer.write(folder)
        renderer.write_index(folder.resolve().parent)
    except OSError as error:
        raise Refused(f"The report cannot be written in {folder}: {error.strerror}.") from None
    out.print(f"{written.verdict.outcome.upper()}: {written.verdict.sentence}", markup=False)
    out.print(f"report: {folder / 'report.html'}", markup=False)
    raise typer.Exit(renderer.exit_code(written))


def _blind(written: Report) -> dict[str, list[str]]:
    """Why we could not look, each reason once, with the checks that it blinds."""
    reasons: dict[str, list[str]] = {}
    for finding in written.verdict.unknown:
        reasons.setdefault(finding.summary, []).append(finding.id)
    return {reason: list(dict.fromkeys(ids)) for reason, ids in reasons.items()}


def _split(pairs: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Refused(f"-p takes key=value, and {pair!r} has no `=`.")
        if name in given:
            raise Refused(f"The parameter {name} is given twice.")
        given[name] = value
    return given


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def main() -> None:
    """Run the command line; what is refused is one line on stderr and exit code 2."""
    try:
        app()
    except Refused as refused:
        err.print(f"refused: {refused}", markup=False, highlight=False)
        raise SystemExit(2) from None
    except PracticeError as failed:
        said = "; ".join([str(failed), *getattr(failed, "__notes__", [])])
        err.print(f"practice platform: {said}", markup=False, highlight=False)
        raise SystemExit(PRACTICE_FAILED) from None
    except KeyboardInterrupt:
        raise SystemExit(TERMINATED) from None


if __name__ == "__main__":
    main()
