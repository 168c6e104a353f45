import io

from rich.console import Console

from tests.launch.fake_stages import node, plan
from tokexp.report.live import LiveTree, PlainLines, live_display


def started(display, terminal):
    stages = [node("first"), node("second")]
    display.begin(plan(*stages))
    return stages


def test_without_a_terminal_every_change_is_a_plain_line():
    out = io.StringIO()
    display = live_display(Console(file=out, force_terminal=False))
    first, second = started(display, False)
    display.state(first, "running")
    display.event(first, {"e": "done", "seconds": 75.0})
    display.state(first, "done")
    display.state(second, "failed", "the loss is not finite [step 3]")
    display.close()
    lines = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [
        "fake: 2 stages",
        f"first {first.key[:6]}: running",
        f"first {first.key[:6]}: done (1 min 15 s)",
        f"second {second.key[:6]}: failed (the loss is not finite [step 3])",
    ]
    assert isinstance(display, PlainLines)


def test_a_terminal_shows_progress_rate_loss_and_the_time_left():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140, legacy_windows=False, _environ={"TERM": "xterm"})
    display = live_display(console)
    assert isinstance(display, LiveTree)
    first, _ = started(display, True)
    display.state(first, "running")
    display.event(first, {"e": "started", "t": 0.0})
    display.event(first, {"e": "progress", "done": 50, "total": 200, "unit": "steps", "rate": 2.0})
    display.event(first, {"e": "metrics", "step": 50, "values": {"loss": 1.25}})
    with console.capture() as capture:
        console.print(display._draw())
    display.close()
    shown = capture.get()
    for part in ("0 of 2 stages done", "25 %", "50 of 200 steps", "2/s", "1 min 15 s left", "loss 1.25"):
        assert part in shown
    assert "to do" in shown


def test_a_stage_that_is_started_again_shows_nothing_of_its_earlier_attempt():
    out = io.StringIO()
    display = live_display(Console(file=out, force_terminal=False))
    first, _ = started(display, False)
    display.state(first, "running")
    display.event(first, {"e": "progress", "done": 5, "total": 100, "unit": "steps", "rate": 2.0})
    display.state(first, "queued")
    display.state(first, "running")
    assert out.getvalue().splitlines()[-1].endswith(f"first {first.key[:6]}: running")
