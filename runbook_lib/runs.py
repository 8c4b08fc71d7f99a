"""A run: it asks, journals and concludes, in a folder of its own. `start` begins one.

A run asks the probes of its checks side by side, journals every finding, and weighs them into a
verdict. `start` is the first call of every notebook.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runbook_lib import catalogue, display
from runbook_lib import config as configuration
from runbook_lib.config import Config
from runbook_lib.core import Action, Check, Planned, Result, judge, plan, takes
from runbook_lib.journal import Journal
from runbook_lib.model import Answer, Finding, Status, Verdict, reach_verdict
from runbook_lib.sources.clients import Sources
from runbook_lib.sources.redaction import Redactor, from_environment
from runbook_lib.sources.seam import Answers, Live, Probe, Replay, read_recording

FOLDER = "RUNBOOK_RUN_FOLDER"
REPLAY = "RUNBOOK_REPLAY"
SHARED_SECONDS = 60.0


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
        self._runbooks = catalogue.ids()

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

    def act(self, one: Action, **arguments: Any) -> Planned:
        """Plan this action on what its probes say, journal the plan, and show it.

        It changes nothing. Evidence that this run has is used, so that the plan is about what
        the findings showed. Raises TypeError for an argument that the action does not have.
        """
        _refuse_unknown((one,), arguments)
        self._gather((one,), arguments)
        answers = [self._samples[_ask_for(probe, arguments)[0]].answer for probe in one.probes]
        made = plan(one, answers, self.config, arguments)
        self._journal.append("plan", plan=made.model_dump(mode="json"))
        return Planned(made)

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

    def _gather(self, checks: Iterable[Check | Action], arguments: dict[str, Any]) -> None:
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
        result = _pointing_at(result, self._runbooks)
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


def new_folder(outputs: Path, runbook: str) -> Path:
    """Make `<outputs>/<UTC time>-<runbook>-<short id>/`. Raises OSError if it cannot be made."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = outputs / f"{stamp}-{runbook}-{secrets.token_hex(3)}"
    (folder / "evidence").mkdir(parents=True)
    return folder


def open_journal(
    folder: Path, runbook: str, *, mode: str, redactor: Redactor, **fields: Any
) -> Journal:
    """Begin a run's journal with its `run-started`."""
    journal = Journal(folder, redactor.clean)
    journal.append(
        "run-started",
        run=folder.name,
        runbook=runbook,
        mode=mode,
        host=platform.node(),
        pid=os.getpid(),
        versions={name: version(name) for name in ("runbook-notebooks", "papermill")},
        **fields,
    )
    return journal


def start(runbook: str) -> Run:
    """Begin, or inside a supervised kernel join, the run of this runbook.

    Headless, the supervisor has made the folder and begun the journal. In JupyterLab a folder is
    made below the nearest `outputs/`. With RUNBOOK_REPLAY set to a run's folder or a case file,
    its recorded answers are judged and no system is asked.
    Raises ConfigError, and FileNotFoundError or ValueError for an unusable recording.
    """
    config = configuration.load()
    redactor = from_environment()
    recording = os.environ.get(REPLAY)
    answers: Answers
    if recording:
        answers = Replay(read_recording(Path(recording)))
    else:
        answers = Live(Sources(config, redactor), config, redactor)
    if given := os.environ.get(FOLDER):
        folder = Path(given)
        return Run(runbook, folder, Journal(folder, redactor.clean), answers, config)
    folder = new_folder(_outputs(), runbook)
    journal = open_journal(folder, runbook, mode="lab", redactor=redactor)
    return Run(runbook, folder, journal, answers, config, at_end=_write_report)


def _write_report(journal: Journal) -> None:
    """In JupyterLab nobody supervises: the verdict itself ends the run and renders its report."""
    from runbook_lib import report  # the renderer, which a headless kernel never needs

    journal.append("run-ended", ending="completed", reason="")
    report.write(journal.path.parent)


def _outputs() -> Path:
    """The nearest `outputs/` at or above the working folder, else one here."""
    here = Path.cwd()
    return next(
        (d / "outputs" for d in (here, *here.parents) if (d / "outputs").is_dir()), here / "outputs"
    )


def _mark_recovered(result: Result) -> Result:
    findings = [
        f.model_copy(update={"recovered": True}) if f.status is Status.OK else f
        for f in result.findings
    ]
    return Result(findings, result.tables, result.charts)


def _pointing_at(result: Result, runbooks: set[str]) -> Result:
    """Findings that name no runbook to open but those that there are."""
    findings = [
        f.model_copy(update={"runbook": f.runbook if f.runbook in runbooks else ""})
        for f in result.findings
    ]
    return Result(findings, result.tables, result.charts)


def _ask_for(probe: Probe, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The parameters to ask this probe with, defaults left out, and a key for the answer."""
    params = {
        name: arguments[name]
        for name, parameter in probe.params().items()
        if name in arguments and arguments[name] != parameter.default
    }
    return f"{probe.name}{json.dumps(params, sort_keys=True, default=str)}", params


def _arguments_of(one: Check, arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in sorted(takes(one) & set(arguments))}


def _refuse_unknown(checks: Iterable[Check | Action], arguments: dict[str, Any]) -> None:
    known = {name for one in checks for name in takes(one)}
    if stray := sorted(set(arguments) - known):
        names = ", ".join(one.name for one in checks)
        raise TypeError(f"None of {names} takes the argument {', '.join(stray)}.")
