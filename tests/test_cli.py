"""The command line as a shell sees it: what it refuses, what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from notebook import NOTEBOOKS, ROOT

from runbook_lib import cli

RUNBOOK = str(Path(sys.executable).parent / "runbook")
CASES = ROOT / "tests" / "cases" / "rds-connection-exhaustion"
NAME = "rds-connection-exhaustion"
EXIT_CODES = (
    "0 healthy or recovered", "10 cause found", "11 inconclusive", "2 input refused",
    "20 notebook raised", "21 kernel died", "22 time limit", "23 terminated",
)  # fmt: skip
Here = Callable[..., tuple[int, str, str]]


def environment(**variables: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RUNBOOK_", "AWS_", "PG"))}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1"} | variables


def runbook(
    *arguments: str, cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RUNBOOK, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Here:
    """The same in this process, which spares the start of one: (exit code, stdout, stderr)."""
    for name in os.environ:
        if name not in environment():
            monkeypatch.delenv(name)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["runbook", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


# --- refusals: exit code 2, one line, nothing written ---


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["nodes-not-raedy"], {}, "Did you mean nodes-not-ready?"),
        ([NAME, "-p", "idle_minute=5"], {}, "Did you mean idle_minutes?"),
        ([NAME, "-p", "trend_minutes=abc"], {}, "trend_minutes must be int, and 'abc' is not"),
        ([NAME, "-p", "idle_minutes=nan"], {}, "idle_minutes must be float"),
        ([NAME, "-p", "x=1;import os#"], {}, "has no parameter 'x'"),
        ([NAME, "-p", "x;import os#=1"], {}, "has no parameter 'x;import os#'"),
        ([NAME, "-p", "idle_minutes"], {}, "'idle_minutes' has no `=`"),
        ([NAME, "-p", "idle_minutes=1", "-p", "idle_minutes=2"], {}, "given twice"),
        ([NAME, "--replay", "absent"], {}, "The recording absent cannot be read: No such file"),
        ([NAME, "--replay", "bad.yaml"], {}, "no list of `answers`"),
        ([NAME, "--replay", "folder"], {}, "holds no recorded answers"),
        ([NAME], {"RUNBOOK_CONFIG": "/nowhere.toml"}, "RUNBOOK_CONFIG names /nowhere.toml"),
        ([NAME], {"RUNBOOK_DATABASE__PORT": "many"}, "database.port"),
        ([NAME, "--output-dir", "file"], {}, "The run's folder cannot be made in file"),
        ([NAME, "--output-dir", "file/below"], {}, "The run's folder cannot be made in file"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_is_written(
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    says: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.yaml").write_text("answers: 3")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = here("run", *arguments)
    assert (code, out) == (2, "")
    refusals = [line for line in err.splitlines() if line.startswith("refused: ")]
    assert len(refusals) == 1
    assert says in refusals[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_shell_sees_a_refusal_too(tmp_path: Path) -> None:
    done = runbook("run", NAME, "-p", "x=1;import os#", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refused: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--wat"], ["run"], ["run", NAME, "--wat"], ["wat"]])
def test_a_wrong_command_line_is_refused(here: Here, arguments: list[str]) -> None:
    assert here(*arguments)[:2] == (2, "")


def test_a_folder_that_is_no_run_has_no_report(here: Here, tmp_path: Path) -> None:
    code, _, err = here("report", str(tmp_path))
    assert code == 2
    assert "it has no journal.jsonl" in err
    assert not list(tmp_path.iterdir())


# --- runs, four of them side by side ---


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, subprocess.CompletedProcess[str]]]:
    """Four runs at once into one folder: its path, and how each ended."""
    outputs = tmp_path_factory.mktemp("outputs")
    empty = tmp_path_factory.mktemp("cases") / "empty.yaml"
    empty.write_text("answers: []\n")
    leak = str(CASES / "leak.yaml")
    orders = {
        "healthy": ["--json", "--replay", str(CASES / "healthy.yaml"), "-p", "trend_minutes=0180"],
        "cause found": ["--replay", leak],
        "inconclusive": ["--replay", str(empty)],
        "exit zero": ["--replay", leak, "--exit-zero"],
    }
    begun = {
        key: subprocess.Popen(
            [RUNBOOK, "run", NAME, "--output-dir", str(outputs), *order],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PGPASSWORD="hunter22-and-more"),
        )
        for key, order in orders.items()
    }
    ended = {}
    for key, process in begun.items():
        out, err = process.communicate(timeout=120)
        ended[key] = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return outputs, ended


@pytest.mark.parametrize(
    ("run", "code"), [("healthy", 0), ("cause found", 10), ("inconclusive", 11), ("exit zero", 0)]
)
def test_the_exit_code_is_the_outcome(runs: tuple[Path, dict], run: str, code: int) -> None:
    ended = runs[1][run]
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


def test_results_are_on_stdout_and_progress_is_not(runs: tuple[Path, dict]) -> None:
    ended = runs[1]["cause found"]
    assert ended.stdout.startswith("CAUSE FOUND: ")
    assert "  cause: application/" in ended.stdout
    assert "  next:  " in ended.stdout
    path = Path(ended.stdout.splitlines()[-1].removeprefix("report: "))
    assert path.is_file()
    assert "RDS connection exhaustion: running" in ended.stderr
    assert "Is there a free slot" in ended.stderr


def test_json_is_all_of_stdout(runs: tuple[Path, dict]) -> None:
    ended = runs[1]["healthy"]
    told = json.loads(ended.stdout)
    assert told == json.loads((runs[0] / told["run"] / "report.json").read_text())
    assert (told["verdict"]["outcome"], told["exit_code"], told["mode"]) == ("healthy", 0, "replay")
    assert told["parameters"] == {"trend_minutes": 180}
    assert "running" in ended.stderr


def test_what_could_not_be_looked_at_is_said(runs: tuple[Path, dict]) -> None:
    said = runs[1]["inconclusive"].stdout
    assert said.startswith("INCONCLUSIVE: Could not look")
    assert "could not look (rds-connection-headroom" in said
    reasons = [line for line in said.splitlines() if "could not look (" in line]
    assert len(reasons) == len({line.split("): ")[1] for line in reasons})


def test_runs_side_by_side_do_not_disturb_each_other(runs: tuple[Path, dict]) -> None:
    folders = [path for path in runs[0].iterdir() if path.is_dir()]
    assert len(folders) == 4
    reports = [json.loads((one / "report.json").read_text()) for one in folders]
    outcomes = sorted(report["verdict"]["outcome"] for report in reports)
    assert outcomes == ["cause found", "cause found", "healthy", "inconclusive"]
    for folder, report in zip(folders, reports, strict=True):
        assert report["run"] == folder.name
        assert all(cell["state"] == "done" for cell in report["cells"])
        assert {p.name for p in folder.iterdir()} == {
            "evidence", "journal.jsonl", "notebook.ipynb",
            "report.html", "report.json", "report.md",
        }  # fmt: skip
    index = (runs[0] / "index.html").read_text()
    assert sum(folder.name in index for folder in folders) >= 1


def test_a_report_can_be_rendered_again(here: Here, runs: tuple[Path, dict]) -> None:
    folder = Path(runs[1]["cause found"].stdout.splitlines()[-1].removeprefix("report: ")).parent
    before = (folder / "report.json").read_text()
    (folder / "report.json").unlink()
    code, out, _ = here("report", str(folder))
    assert code == 10
    assert out.startswith("CAUSE FOUND: ")
    assert (folder / "report.json").read_text() == before


@pytest.mark.slow
def test_a_run_is_itself_a_recording(runs: tuple[Path, dict], tmp_path: Path) -> None:
    first = Path(runs[1]["cause found"].stdout.splitlines()[-1].removeprefix("report: ")).parent
    done = runbook("run", NAME, "--replay", str(first), "--output-dir", str(tmp_path), "--json")
    assert done.returncode == 10, done.stderr
    told, before = json.loads(done.stdout), json.loads((first / "report.json").read_text())
    for key in ("outcome", "sentence", "causes", "symptoms", "warnings", "unknown", "recovered"):
        assert told["verdict"][key] == before["verdict"][key]


# --- help, list, show ---


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_documents_every_exit_code(here: Here, arguments: list[str]) -> None:
    code, out, _ = here(*arguments)
    said = " ".join(out.split())
    assert code == 0
    for told in EXIT_CODES:
        assert told in said


@pytest.mark.parametrize("command", ["list", "show", "run", "report"])
def test_every_command_explains_itself(here: Here, command: str) -> None:
    assert command in here("--help")[1]
    assert here(command, "--help")[0] == 0


def test_list_names_every_runbook(here: Here) -> None:
    plain, told = here("list")[1], json.loads(here("list", "--json")[1])
    assert all(name in plain for name in NOTEBOOKS)
    assert {one["id"] for one in told} == set(NOTEBOOKS)
    assert set(told[0]) == {
        "id", "title", "section", "severity", "alerts", "time_limit", "related",
    }  # fmt: skip


def test_show_tells_what_a_runbook_takes(here: Here) -> None:
    plain, told = here("show", NAME)[1], json.loads(here("show", NAME, "--json")[1])
    assert "-p idle_minutes=…  float, default 5: an open transaction" in plain
    assert {p["name"]: p["type"] for p in told["parameters"]}["trend_minutes"] == "int"
    assert told["id"] == NAME


def test_show_refuses_what_is_not_there(here: Here) -> None:
    code, out, err = here("show", "health-chek")
    assert (code, out) == (2, "")
    assert "Did you mean health-check?" in err
