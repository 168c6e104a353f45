import json
import re
import time
from pathlib import Path

import pytest

from tests.launch import fake_stages
from tokexp import worker
from tokexp.errors import InputError
from tokexp.launch.attempts import attempts_of
from tokexp.ledger.workspace import Workspace
from tokexp.verbs import running

SPEC = """
schema: 1
name: small
data: {kind: digits}
tokenizer: {kind: patch_kmeans, codebook_size: 8}
model: {kind: vit, width: 16, depth: 1, heads: 2, stem: {kind: conv2x2}}
objective: {kind: supervised, train: {steps: 8, lr: 1.5e-3}}
resources: {default: {cpus: 1}}
track: {enabled: false}
"""


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    monkeypatch.setattr(worker, "_context", fake_stages.context)
    monkeypatch.setattr(worker, "_run_stage", fake_stages.run_stage)


@pytest.fixture
def spec(tmp_path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "workspace"


def run(spec, root, *overrides):
    return running.run(spec, list(overrides), root, "inline", None, False, True)


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_plan_says_what_is_to_do_and_writes_nothing(spec, root, capsys):
    assert running.plan(spec, [], root, False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"small   3 stages, 0 done, 3 to do {8}about \d+ s on this machine, [\d.]+ kB", lines[0])
    assert [line.split()[0] for line in lines[1:]] == ["tokenizer", "tokens", "pretrain"]
    assert all("to do" in line for line in lines[1:])
    assert not root.exists()


def test_a_plan_as_json_has_a_record_of_every_stage(spec, root, capsys):
    running.plan(spec, ["seeds=[0, 1]"], root, True)
    found = answer(capsys)
    assert [stage["name"] for stage in found["stages"]] == ["tokenizer", "tokens", "pretrain", "pretrain"]
    assert found["stages"][-1].keys() == {
        "key", "kind", "name", "label", "state", "inputs", "seed", "estimate_s", "bytes",
    }  # fmt: skip
    assert found["estimate_s"] == pytest.approx(sum(stage["estimate_s"] for stage in found["stages"]), abs=0.2)


def test_a_run_prints_one_json_object_and_the_plan_is_done_afterwards(spec, root, capsys):
    assert run(spec, root) == 0
    found = answer(capsys)
    assert len(found["computed"]) == 3
    assert {"metrics", "storage", "stages", "ref", "failures"} <= found.keys()
    running.plan(spec, [], root, True)
    assert {stage["state"] for stage in answer(capsys)["stages"]} == {"done"}


def test_a_second_run_does_no_work_and_has_the_same_numbers(spec, root, capsys):
    run(spec, root)
    first = answer(capsys)
    assert run(spec, root) == 0
    second = answer(capsys)
    assert second["computed"] == []
    assert second["metrics"] == first["metrics"]


def test_a_changed_field_runs_only_what_depends_on_it(spec, root, capsys):
    run(spec, root)
    capsys.readouterr()
    run(spec, root, "objective.train.lr=0.003")
    assert len(answer(capsys)["computed"]) == 1


def test_a_failure_is_told_and_retry_goes_on_from_there(spec, root, capsys, monkeypatch):
    def broken(job, context):
        if job.payload.kind == "pretrain":
            raise RuntimeError("broken")
        return fake_stages.run_stage(job, context)

    monkeypatch.setattr(worker, "_run_stage", broken)
    assert run(spec, root) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [(each["name"], each["cause"]) for each in found["failures"]] == [("pretrain", "code")]
    assert "RuntimeError: broken" in captured.err
    monkeypatch.setattr(worker, "_run_stage", fake_stages.run_stage)
    monkeypatch.setattr(running, "open_launcher", lambda *_: fake_inline())
    assert running.retry("small", root, True) == 0
    assert len(answer(capsys)["computed"]) == 1


def fake_inline():
    from tokexp.launch.inline import InlineLauncher

    return InlineLauncher()


def test_status_lists_runs_and_the_stages_of_one(spec, root, capsys):
    run(spec, root)
    ref = answer(capsys)["ref"]
    running.status(None, root, True)
    [listed] = answer(capsys)["runs"]
    assert (listed["ref"], listed["states"]) == (ref, {"done": 3})
    running.status("small", root, True)
    stages = answer(capsys)["stages"]
    assert [(stage["name"], stage["state"], stage["attempts"]) for stage in stages] == [
        ("tokenizer", "done", 1), ("tokens", "done", 1), ("pretrain", "done", 1),
    ]  # fmt: skip


def test_status_of_an_unknown_run_names_the_nearest(spec, root, capsys):
    run(spec, root)
    with pytest.raises(InputError, match="small"):
        running.status("smal_", root, False)


def test_logs_merge_what_the_stages_said(spec, root, capsys):
    run(spec, root)
    capsys.readouterr()
    assert running.logs("small", root, True, False) == 0
    text = capsys.readouterr().out
    assert text.index("tokenizer: started") < text.index("tokens: started") < text.index("pretrain: done")
    assert "step 1: loss 1" in text


def test_cancelling_what_does_not_run_says_so(spec, root, capsys):
    run(spec, root)
    capsys.readouterr()
    assert running.cancel("small", root, False) == 0
    assert "nothing of it is running" in capsys.readouterr().err


def test_a_detached_run_returns_at_once_and_ends_by_itself(spec, root, capsys):
    spec.write_text(SPEC.replace("kind: digits", "kind: image_folder, root: /nowhere, image_size: 8"))
    with pytest.raises(InputError):
        running.run(spec, [], root, "local", None, True, True)
    spec.write_text(SPEC)
    assert running.run(spec, [], root, "inline", None, True, True) == 0
    found = answer(capsys)
    log = Path(found["log"])
    limit = time.monotonic() + 60
    while "ended:" not in (log.read_text() if log.exists() else "") and time.monotonic() < limit:
        time.sleep(0.1)
    assert "tokenizer" in log.read_text()
    assert attempts_of(Workspace(root), running.load_run(Workspace(root), found["ref"]).nodes[0].key)


def test_why_prints_the_fields_in_which_two_files_differ(spec, root, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(SPEC.replace("1.5e-3", "3.0e-3").replace("name: small", "name: other"))
    assert running.why(str(spec), str(other), root, False) == 0
    assert capsys.readouterr().out.split() == ["objective.train.lr", "0.0015", "->", "0.003"]


def test_why_explains_two_stages_by_their_keys_down_to_their_inputs(spec, root, capsys):
    keys = []
    for overrides in ([], ["tokenizer.codebook_size=16"]):
        run(spec, root, *overrides)
        keys.append(answer(capsys)["stages"][-1]["key"])
    running.why(keys[0][:8], keys[1][:8], root, True)
    paths = {row["path"]: (row["a"], row["b"]) for row in answer(capsys)["differences"]}
    assert paths["tokens: tokenizer.codebook_size"] == (8, 16)
    assert {"inputs.tokens", "tokens: inputs.tokenizer"} <= paths.keys()
    assert "neutral" not in str(paths)


def test_why_compares_two_runs(spec, root, capsys):
    refs = []
    for overrides in ([], ["objective.train.lr=0.003"]):
        run(spec, root, *overrides)
        refs.append(answer(capsys)["ref"])
    running.why(*refs, root, True)
    assert answer(capsys)["differences"] == [{"path": "objective.train.lr", "a": 0.0015, "b": 0.003}]


def test_why_refuses_to_compare_a_stage_with_an_experiment(spec, root, capsys):
    run(spec, root)
    key = answer(capsys)["stages"][0]["key"]
    with pytest.raises(InputError, match="two keys, two files or two runs"):
        running.why(key, str(spec), root, False)


def test_a_plan_says_that_the_data_is_not_here(tmp_path, capsys):
    file = tmp_path / "absent.yaml"
    file.write_text(SPEC.replace("{kind: digits}", "{kind: image_folder, root: nowhere, image_size: 16}"))
    assert running.plan(file, [], tmp_path / "w", json=True) == 0
    shown = capsys.readouterr()
    assert "'nowhere' does not exist" in shown.err
    assert [stage["kind"] for stage in json.loads(shown.out)["stages"]][:2] == ["tokenizer", "tokens"]
