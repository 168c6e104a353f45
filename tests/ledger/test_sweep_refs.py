"""Which of a run and a sweep a word means."""

from pathlib import Path

from tests.recorded import recorded_run, workspace_at
from tests.recorded_sweeps import recorded_sweep
from tokexp.ledger.runs import save_run
from tokexp.ledger.sweeps import is_sweep_ref


def test_the_name_of_a_run_goes_before_the_start_of_a_sweeps_ref(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "w")
    sweep = recorded_sweep(workspace, {"a": {0: 0.5}})
    assert is_sweep_ref(workspace, "ablat")
    run = recorded_run(workspace)
    save_run(workspace, run.model_copy(update={"ref": "ablat-12345678", "name": "ablat"}))
    assert not is_sweep_ref(workspace, "ablat")
    assert not is_sweep_ref(workspace, "ablat-12345678")
    assert is_sweep_ref(workspace, sweep.ref)
    assert is_sweep_ref(workspace, "abl")
