"""The command line: what is typed arrives at the verbs, and every ending has its exit code and its message."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recorded import recorded_run, run_all, workspace_at
from tokexp import __version__, cli
from tokexp.__main__ import main as entry
from tokexp.errors import InputError, Problem, SpecError, StageError

SPEC = """\
schema: 1
name: small
data: {kind: digits}
tokenizer: {kind: patch_kmeans}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
tasks: {probe: {kind: probe}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def _verb_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from tokexp.verbs import specs

    def fail(*_: Any) -> int:
        raise error

    monkeypatch.setattr(specs, "list_kinds", fail)


def test_every_verb_has_help_and_takes_json() -> None:
    groups = {"store": ("info", "verify", "export", "import", "slice", "merge"), "codec": ("fit", "compare")}
    verbs = [name for name in _verbs() if name not in groups]
    verbs += [f"{group} {verb}" for group, names in groups.items() for verb in names]
    assert len(verbs) >= 20
    for verb in verbs:
        ended = subprocess.run(
            [sys.executable, "-c", "from tokexp.cli import main; main()", *verb.split(), "--help"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, verb
        assert "--json" in ended.stdout, verb


def _verbs() -> list[str]:
    text = subprocess.run([sys.executable, "-m", "tokexp", "--help"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  ([a-z]+)  ", text.split("Commands:")[1], re.MULTILINE)


def test_the_help_of_every_verb_fits_on_its_line() -> None:
    text = subprocess.run([sys.executable, "-m", "tokexp", "--help"], capture_output=True, text=True, check=True).stdout
    assert "..." not in text.split("Commands:")[1]


@pytest.mark.parametrize("verb", [
    "validate", "show", "schema", "plan", "run", "tokenize", "sweep", "compare", "leaderboard", "report", "bench", "ui",
    "store export", "store import", "store slice", "store merge", "codec fit", "codec compare",
])  # fmt: skip
def test_options_are_named_after_what_they_take_and_not_after_python(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run([*verb.split(), "--help"]) == 0
    usage, options = capsys.readouterr().out.split("Options:")
    assert re.findall(r"<(?:path|str|int|float|list)[^>]*>", options) == []
    assert re.findall(r"\[\[|\.\.\.\}", usage) == []


@pytest.mark.parametrize("verb", ["slice", "merge"])
def test_a_verb_for_one_split_does_not_promise_all_of_them(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["store", verb, "--help"]) == 0
    assert "all if not given" not in capsys.readouterr().out


def test_version_is_printed_by_verb_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["version"]) == cli._run(["--version"]) == 0
    assert capsys.readouterr().out.split() == [__version__] * 2
    assert cli._run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


@pytest.mark.parametrize("arguments", [["runn"], ["run"], ["run", "x.yaml", "--jobs", "0"], ["validate", "--what"]])
def test_wrong_usage_is_exit_code_2_with_a_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(arguments) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(InputError("no such run"), 2), (StageError("it broke"), 1)])
def test_an_error_of_tokexp_is_one_message_and_its_own_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _verb_raises(monkeypatch, error)
    assert cli._run(["list"]) == code
    shown = capsys.readouterr()
    assert shown.err == f"{error}\n"
    assert shown.out == ""


def test_with_json_an_error_is_one_object_with_all_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [Problem("a.yaml", "x.y", "unknown field", 3, 5), Problem("a.yaml", "z", "missing")]
    _verb_raises(monkeypatch, SpecError(problems))
    assert cli._run(["list", "--json"]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["error"].startswith("a.yaml:3:5: x.y: unknown field")
    assert [(item["line"], item["path"]) for item in shown["problems"]] == [(3, "x.y"), (None, "z")]


def test_wrong_usage_with_json_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["run", "--json"]) == 2
    assert "file" in json.loads(capsys.readouterr().out)["error"].lower()


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _verb_raises(monkeypatch, KeyboardInterrupt())
    assert cli._run(["list"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _verb_raises(monkeypatch, OSError(28, "No space left on device", "out.json"))
    assert cli._run(["list"]) == 1
    assert capsys.readouterr().err == "out.json: No space left on device; free some space and try again\n"


def test_a_reader_that_leaves_early_causes_no_message() -> None:
    command = f"{sys.executable} -m tokexp schema | head -c 10"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (len(ended.stdout), ended.stderr) == (10, "")


def test_validate_takes_overrides_and_gives_one_json_object(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["validate", str(spec), "--set", "model.depth=2", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)
    assert cli._run(["validate", str(spec), "--set", "model.depht=2"]) == 2
    assert "did you mean depth" in capsys.readouterr().err


def test_plan_writes_nothing(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "workspace"
    assert cli._run(["plan", str(spec), "--workspace", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "small"
    assert not folder.exists()


def test_report_writes_the_kind_of_file_that_its_ending_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record, steps=3)
    for name, start in (("r.html", "<!doctype html>"), ("r.csv", "run,metric"), ("r.md", "# recorded")):
        target = tmp_path / name
        common = ["--workspace", str(workspace.root), "--json"]
        assert cli._run(["report", record.ref, "--output", str(target), *common]) == 0
        assert json.loads(capsys.readouterr().out)["file"] == str(target)
        assert target.read_text().startswith(start)
    assert cli._run(["report", record.ref, "--output", "r.pdf", "--workspace", str(workspace.root)]) == 2
    assert ".html, .csv or .md" in capsys.readouterr().err


def test_an_unknown_run_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["report", "nothing", "--workspace", str(tmp_path / "none")]) == 2
    assert "no run" in capsys.readouterr().err


def test_the_dashboard_refuses_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli._run(["ui", "--port", port, "--workspace", str(tmp_path / "w")]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_benchmark_is_one_json_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tokexp.bench import plan
    from tokexp.bench.base import at_most

    monkeypatch.setattr(plan, "rows", lambda: [at_most("x", 3.0, "s", 2.0)])
    assert cli._run(["bench", "plan", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"bench", "machine", "rows"}
    assert shown["rows"][0]["holds"] is False


def test_output_that_cannot_be_written_ends_with_a_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("w") as sink:
        ended = subprocess.run(
            [sys.executable, "-c", "from tokexp.cli import main; main()", "version", "--json"],
            stdout=sink, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "free some space" in ended.stderr


def test_a_terminal_that_knows_ascii_alone_shows_a_table(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "w")
    run_all(workspace, record := recorded_run(workspace))
    table = tmp_path / "r\u00e4.csv"
    code = "from tokexp.cli import main; main()"
    given = ["report", record.ref, "--workspace", str(workspace.root), "--output", str(table)]
    ended = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert "r?.csv" in ended.stdout


def test_running_a_sweep_names_the_verb_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["run", "sweeps/seitpp/table_7.yaml"]) == 2
    assert "is a sweep; `tokexp sweep sweeps/seitpp/table_7.yaml` carries it out" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["plan"], ["run"], ["sweep"], ["run", "--on", "slurm/cluster.yaml", "--dry-run"]])
def test_a_cluster_profile_in_the_place_of_a_spec_is_one_sentence(
    verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._run([*verb, "slurm/cluster.yaml"]) == 2
    said = capsys.readouterr().err
    assert said == "slurm/cluster.yaml is a cluster profile; name an experiment or a sweep, and the profile by --on\n"


def test_running_a_sweep_on_a_cluster_names_the_verb_for_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["run", "sweeps/seitpp/table_7.yaml", "--on", "slurm/cluster.yaml", "--dry-run"]) == 2
    assert "is a sweep; `tokexp sweep sweeps/seitpp/table_7.yaml` carries it out" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "experiments/seit.yaml"], ["sweep", "sweeps/seitpp/table_7.yaml"]])
def test_the_scripts_of_a_dry_run_are_one_json_object_where_that_is_asked_for(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--on", "slurm/cluster.yaml", "--dry-run", "--workspace", str(tmp_path / "w"), "--json"]
    assert cli._run([*command, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found) == ["ref", "scripts"]
    assert "#SBATCH" in found["scripts"]


def test_an_unknown_benchmark_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["bench", "lodaer"]) == 2
    assert capsys.readouterr().err == "no benchmark 'lodaer'; did you mean loader?\n"


@pytest.mark.parametrize(("closed", "code"), [(1, 0), (2, 0)])
def test_a_standard_stream_that_the_caller_closed_is_no_error(closed: int, code: int) -> None:
    command = f"exec {closed}>&-; exec {sys.executable} -m tokexp version"
    ended = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_an_interrupt_while_the_command_line_is_loaded_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading:
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tokexp.cli", Loading())
    with pytest.raises(SystemExit) as ended:
        entry()
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_sweeping_an_experiment_names_the_verb_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli._run(["sweep", "experiments/seitpp.yaml"]) == 2
    assert "is an experiment; `tokexp run experiments/seitpp.yaml` carries it out" in capsys.readouterr().err


def test_messages_of_wrong_options_are_plain(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    assert cli._run(["run", str(spec), "--launcher", "nowhere"]) == 2
    shown = capsys.readouterr().err
    assert "nowhere" in shown
    assert "Value error" not in shown


def test_an_interrupt_before_the_work_began_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _verb_raises(monkeypatch, KeyboardInterrupt())
    assert cli._run(["list", "--json"]) == 130
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": "interrupted", "problems": []}
    assert shown.err == "interrupted\n"
