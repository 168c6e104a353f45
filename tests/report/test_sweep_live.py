import io

from rich.console import Console

from tests.launch.fake_stages import node
from tokexp.ledger.sweeps import TrialRecord
from tokexp.report.sweep_live import LiveSweep, PlainSweep, sweep_display


def trial(number, case="both", seed=0):
    return TrialRecord(f"{number:010d}-s{seed}", number, case, {}, seed, f"{number:010d}", {})


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=40)


def shown(display, console):
    with console.capture() as capture:
        console.print(display._draw())
    return capture.get()


def test_a_terminal_shows_trials_by_state_and_the_stages_at_work():
    console = terminal()
    display = LiveSweep(console)
    display.begin_sweep("table-7", 20)
    tune = node("finetune", "classify vit-32x1")
    display.trial(trial(0), "done")
    display.trial(trial(1), "running")
    display.state(tune, "running")
    display.event(tune, {"e": "progress", "t": 0.0, "done": 50, "total": 100, "unit": "updates", "rate": 10.0})
    text = shown(display, console)
    display.close()
    assert "1 of 20 trials settled" in text
    assert "1 done" in text
    assert "1 running" in text
    assert "50 %" in text
    assert "5.0 s left" in text


def test_stages_that_are_settled_leave_the_picture_and_hundreds_do_not_fill_it():
    console = terminal()
    display = LiveSweep(console)
    display.begin_sweep("table-7", None)
    stages = [node(f"stage{number}", seed=number) for number in range(40)]
    for each in stages:
        display.state(each, "running")
    assert len(shown(display, console).splitlines()) < 20
    assert "28 more at work" in shown(display, console)
    for each in stages:
        display.state(each, "done")
    assert "stage0" not in shown(display, console)
    display.close()


def test_a_failure_is_printed_above_the_picture():
    console = terminal()
    display = LiveSweep(console)
    display.begin_sweep("table-7", 2)
    display.trial(trial(1, "noise [a]"), "failed", "finetune: out of memory")
    display.close()
    assert "noise [a], seed 0: failed (finetune: out of memory)" in console.file.getvalue()


def test_without_a_terminal_there_is_one_line_per_settled_trial():
    console = Console(file=io.StringIO(), width=200)
    display = sweep_display(console)
    assert isinstance(display, PlainSweep)
    display.begin_sweep("table-7", 2)
    for state in ("planned", "running", "done"):
        display.trial(trial(0), state)
    display.trial(trial(1, ""), "pruned", "worse")
    lines = [line[9:] for line in console.file.getvalue().splitlines()]
    assert lines[0] == "table-7: 2 trials"
    assert lines[1].startswith("both, seed 0: done   1 of 2 trials settled")
    assert lines[2].startswith("trial 1, seed 0: pruned (worse)   2 of 2 trials settled")
