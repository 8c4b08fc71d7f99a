"""Checks and runs: what a notebook calls.

A check is a name, one probe (or a few) and one judge, a pure function from the probes' data and
some limits to findings. A run asks the probes side by side, journals every finding, and weighs
them into a verdict.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib import display
from runbook_lib.config import Config
from runbook_lib.journal import Journal
from runbook_lib.model import (
    Answer,
    Chart,
    Finding,
    Status,
    Table,
    Verdict,
    reach_verdict,
    unknown,
    warn,
)
from runbook_lib.sources.seam import Answers, Probe

SHARED_SECONDS = 60.0
TABLE_ROWS = 50


@dataclass(frozen=True)
class Check:
    """One question: its stable name, the probes it needs and the judge of their data.

    explains: names of the checks whose failures this one's failure causes. symptom: its failure
    says that something hurts, not why. rows(*data) gives the table's rows as dicts, odd first;
    chart(*data) gives a Chart or None.
    """

    name: str
    judge: Callable[..., Finding | Iterable[Finding]]
    probes: tuple[Probe, ...]
    explains: tuple[str, ...] = ()
    symptom: bool = False
    rows: Callable[..., list[dict[str, Any]]] | None = None
    chart: Callable[..., Chart | None] | None = None

    @property
    def __wrapped__(self) -> Callable[..., Finding | Iterable[Finding]]:
        """The judge, so that `??` in a notebook shows its source."""
        return self.judge

    @property
    def question(self) -> str:
        """What it states when all is well: the first line of the judge's docstring."""
        return (inspect.getdoc(self.judge) or self.name).splitlines()[0]


def check(
    name: str, *, probe: Probe | tuple[Probe, ...], **fields: Any
) -> Callable[[Callable[..., Finding | Iterable[Finding]]], Check]:
    """Make a check of a judge. Fields are those of `Check`."""
    probes = probe if isinstance(probe, tuple) else (probe,)
    return lambda judge: Check(name, judge, probes, **fields)


@dataclass(frozen=True)
class Result:
    """What checks found: shows itself in a notebook, and can be explored.

    findings: list of Finding. tables, charts: what is shown under them.
    """

    findings: list[Finding]
    tables: list[Table]
    charts: list[Chart]

    @property
    def table(self) -> Any:
        """The first table as a pandas DataFrame (columns as shown); empty if there is none."""
        import pandas as pd  # slow to import, and most runs never ask for it

        if not self.tables:
            return pd.DataFrame()
        return pd.DataFrame(self.tables[0].rows, columns=self.tables[0].columns)

    def _repr_html_(self) -> str:
        return display.result_html(self.findings, self.tables, self.charts)

    def __repr__(self) -> str:
        return display.result_text(self.findings)


@dataclass(frozen=True)
class Conclusion:
    """A run's verdict, which shows itself in a notebook."""

    verdict: Verdict

    def _repr_html_(self) -> str:
        return display.verdict_html(self.verdict)

    def __repr__(self) -> str:
        return f"{self.verdict.outcome}: {self.verdict.sentence}"


@dataclass
class _Sample:
    """An answer of this run, when it was asked for, and which checks have judged it."""

    answer: Answer
    asked: float
    judged: set[str]


class Run:
    """One execution of a runbook: asks, journals, and concludes. Made by `start`.

    An answer serves every check that has not judged it yet, for a minute; asking the same check
    again asks the system again, which is how a fix is verified.
    """

    def __init__(
        self,
        runbook: str,
        folder: Path,
        journal: Journal,
        answers: Answers,
        config: Config,
        at_end: Callable[[Journal], None] | None = None,
    ) -> None:
        self.runbook, self.folder, self.config = runbook, folder, config
        self._journal, self._answers, self._at_end = journal, answers, at_end
        self._samples: dict[str, _Sample] = {}
        self._latest: dict[str, list[Finding]] = {}
        self._failed: set[str] = set()

    def check(self, *checks: Check, **arguments: Any) -> Result:
        """Ask and judge these checks, their probes side by side.

        Arguments go to the probes and judges that have a parameter of that name; what is not
        given is taken from the configured limits, else from the default. Raises TypeError for
        an argument that none of them has.
        """
        _refuse_unknown(checks, arguments)
        self._gather(checks, arguments)
        results = [self._judge(one, arguments) for one in checks]
        return Result(
            [f for r in results for f in r.findings],
            [t for r in results for t in r.tables],
            [c for r in results for c in r.charts],
        )

    @property
    def findings(self) -> list[Finding]:
        """The latest findings of every check asked so far."""
        return [f for found in self._latest.values() for f in found]

    def verdict(self) -> Conclusion:
        """Weigh the findings, journal the verdict, and show it."""
        verdict = reach_verdict(self.findings)
        self._journal.append("verdict", verdict=verdict.model_dump(mode="json"))
        if self._at_end:
            self._at_end(self._journal)
        return Conclusion(verdict)

    def _repr_html_(self) -> str:
        return display.style() + display.banner_html(self.runbook, self.config, self.folder.name)

    def _gather(self, checks: Iterable[Check], arguments: dict[str, Any]) -> None:
        """Ask every probe that these checks need and that has no fresh answer, side by side."""
        wanted: dict[str, tuple[Probe, dict[str, Any]]] = {}
        for one in checks:
            for probe in one.probes:
                key, params = _ask_for(probe, arguments)
                sample = self._samples.get(key)
                stale = sample is None or time.monotonic() - sample.asked > SHARED_SECONDS
                if stale or (sample and one.name in sample.judged):
                    wanted[key] = (probe, params)
        if not wanted:
            return
        # A probe's failure is an answer; what is raised here is that it could not be kept.
        with ThreadPoolExecutor(len(wanted)) as pool:
            asked = [pool.submit(self._sample, key, *ask) for key, ask in wanted.items()]
        for done in asked:
            done.result()

    def _sample(self, key: str, probe: Probe, params: dict[str, Any]) -> None:
        asked = time.monotonic()
        answer = self._answers.answer(probe, params)
        evidence = self._keep(answer)
        self._samples[key] = _Sample(answer, asked, set())
        self._journal.append("probe", **answer.model_dump(mode="json", exclude={"data"}) | evidence)

    def _keep(self, answer: Answer) -> dict[str, str]:
        """Write the answer beside the report, where a replay finds it."""
        folder = self.folder / "evidence"
        folder.mkdir(exist_ok=True)
        # Nanoseconds keep the order of asking, and two probes never share a file.
        name = f"{time.time_ns()}-{answer.probe}.json"
        (folder / f".{name}").write_text(answer.model_dump_json(indent=1))
        (folder / f".{name}").rename(folder / name)
        return {"evidence": f"evidence/{name}"}

    def _judge(self, one: Check, arguments: dict[str, Any]) -> Result:
        samples = [self._samples[_ask_for(probe, arguments)[0]] for probe in one.probes]
        for sample in samples:
            sample.judged.add(one.name)
        result = judge(one, [s.answer for s in samples], self.config, arguments)
        mine = _arguments_of(one, arguments)
        # The same check asked about another thing is another question: it supersedes nothing.
        same = one.name + json.dumps(mine, sort_keys=True, default=str)
        if same in self._failed:
            result = _mark_recovered(result)
        if any(f.status is Status.FAIL for f in result.findings):
            self._failed.add(same)
        self._latest[same] = result.findings
        self._journal.append(
            "check",
            check=one.name,
            arguments=mine,
            question=one.question,
            findings=[f.model_dump(mode="json") for f in result.findings],
            tables=[t.model_dump(mode="json") for t in result.tables],
            charts=[c.model_dump(mode="json") for c in result.charts],
        )
        return result


def judge(
    one: Check, answers: list[Answer], config: Config, arguments: dict[str, Any] | None = None
) -> Result:
    """Judge recorded or fresh answers, one for each probe of the check, in their order.

    A failed answer makes the check UNKNOWN with its reason; so does a judge that breaks.
    """
    arguments = arguments or {}
    if missing := next((a for a in answers if a.error), None):
        return Result([_complete(one, _cannot_look(missing), missing)], [], [])
    data = [a.data for a in answers]
    given = _limits(config) | arguments | {"now": answers[0].sampled_at}
    try:
        found = _call(one.judge, data, given)
        findings = [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # noqa: BLE001  a judge's defect must not cost the other checks
        findings = [unknown(*_broke(one, "The check", error), hint=_REPORT)]
        return Result([_complete(one, f, answers[0]) for f in findings], [], [])
    if not findings:
        findings = [unknown(f"check/{one.name}", "The check said nothing about this evidence.")]
    try:
        tables = _tables(one, data, given)
        drawn = _call(one.chart, data, given) if one.chart else None
    except Exception as error:  # noqa: BLE001  what cannot be drawn must not cost what was found
        findings.append(warn(*_broke(one, "The table or chart of", error), hint=_REPORT))
        tables, drawn = [], None
    return Result(
        [_complete(one, f, answers[0]) for f in findings], tables, [drawn] if drawn else []
    )


_REPORT = "Report this defect with the evidence; look by hand with the command."


def _broke(one: Check, what: str, error: Exception) -> tuple[str, str]:
    said = f"{what} {one.name} broke on this evidence: {type(error).__name__}: {error}."
    return f"check/{one.name}", said


def _complete(one: Check, finding: Finding, answer: Answer) -> Finding:
    return finding.model_copy(
        update={
            "id": one.name,
            "symptom": one.symptom,
            "explains": one.explains,
            "sampled_at": finding.sampled_at or answer.sampled_at,
            "command": finding.command or answer.command,
        }
    )


def _cannot_look(answer: Answer) -> Finding:
    assert answer.error is not None
    about = answer.probe.split(".", 1)[0]
    return unknown(about, answer.error.message, hint=answer.error.next)


def _mark_recovered(result: Result) -> Result:
    findings = [
        f.model_copy(update={"recovered": True}) if f.status is Status.OK else f
        for f in result.findings
    ]
    return Result(findings, result.tables, result.charts)


def _tables(one: Check, data: list[Any], given: dict[str, Any]) -> list[Table]:
    rows = _call(one.rows, data, given) if one.rows else []
    if not rows:
        return []
    columns = list(rows[0])
    kept = [[row.get(column) for column in columns] for row in rows[:TABLE_ROWS]]
    return [Table(title=one.name, columns=columns, rows=kept, left_out=len(rows) - len(kept))]


def _limits(config: Config) -> dict[str, Any]:
    return config.limits.model_dump()


def _call(function: Callable[..., Any], data: list[Any], given: dict[str, Any]) -> Any:
    """Call with the data in order, and by name whatever else it has a parameter for."""
    names = list(inspect.signature(function).parameters)[len(data) :]
    return function(*data, **{name: given[name] for name in names if name in given})


def _ask_for(probe: Probe, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The parameters to ask this probe with, defaults left out, and a key for the answer."""
    params = {
        name: arguments[name]
        for name, parameter in probe.params().items()
        if name in arguments and arguments[name] != parameter.default
    }
    return f"{probe.name}{json.dumps(params, sort_keys=True, default=str)}", params


def _takes(one: Check) -> set[str]:
    """The names of the arguments that a check's judge and probes have."""
    probes = {name for probe in one.probes for name in probe.params()}
    # The first are the data; `now` is when they were sampled, for nobody to choose.
    judges = list(inspect.signature(one.judge).parameters)[len(one.probes) :]
    return (probes | set(judges)) - {"now"}


def _arguments_of(one: Check, arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in sorted(_takes(one) & set(arguments))}


def _refuse_unknown(checks: Iterable[Check], arguments: dict[str, Any]) -> None:
    known = {name for one in checks for name in _takes(one)}
    if stray := sorted(set(arguments) - known):
        names = ", ".join(one.name for one in checks)
        raise TypeError(f"None of the checks {names} takes the argument {', '.join(stray)}.")
