import json
import math
import os
import time
from pathlib import Path

import pytest

from tests.ledger.processes import run_script, start_script
from tokexp.ledger.events import SYNCED, TYPES, EventLog, read_events


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "attempt" / "events.jsonl"


def write_some(path: Path, count: int = 5) -> None:
    with EventLog(path) as log:
        for step in range(count):
            log.append("metrics", step=step, values={"loss": 1.0 / (step + 1)})


def steps(path: Path, offset: int = 0) -> list[int]:
    return [event["step"] for event in read_events(path, offset)[0]]


def test_events_come_back_in_order_with_number_time_and_type(log_file: Path) -> None:
    before = time.time()
    with EventLog(log_file) as log:
        assert log.append("started", key="k", inputs={"tokens": "a"}) == 0
        assert log.append("progress", done=1, total=2, unit="steps", rate=0.5) == 1
    events, offset, problems = read_events(log_file)
    assert [(event["n"], event["e"]) for event in events] == [(0, "started"), (1, "progress")]
    assert events[0]["inputs"] == {"tokens": "a"}
    assert before <= events[0]["t"] <= events[1]["t"] <= time.time()
    assert (offset, problems) == (log_file.stat().st_size, [])


def test_each_line_is_json_with_a_checksum_at_its_end(log_file: Path) -> None:
    write_some(log_file)
    lines = log_file.read_bytes().splitlines()
    assert all(list(json.loads(line))[-1] == "c" for line in lines)


def test_reading_goes_on_from_an_offset(log_file: Path) -> None:
    write_some(log_file, 3)
    offset = read_events(log_file)[1]
    assert read_events(log_file, offset) == ([], offset, [])
    with EventLog(log_file) as log:
        log.append("metrics", step=99, values={})
    assert steps(log_file, offset) == [99]
    assert steps(log_file) == [0, 1, 2, 99]


def test_a_very_long_line_does_not_hinder_reading_on_behind_it(log_file: Path) -> None:
    with EventLog(log_file) as log:
        log.append("failed", cause="code", message="x" * 300_000)
        offset = log_file.stat().st_size
        log.append("metrics", step=7, values={})
    assert steps(log_file, offset) == [7]


def test_a_log_that_is_not_there_has_no_events(log_file: Path) -> None:
    assert read_events(log_file) == ([], 0, [])


def test_numbers_that_are_not_finite_survive(log_file: Path) -> None:
    with EventLog(log_file) as log:
        log.append("metrics", step=0, values={"a": math.nan, "b": math.inf})
    values = read_events(log_file)[0][0]["values"]
    assert math.isnan(values["a"])
    assert values["b"] == math.inf


def test_an_unknown_type_is_refused(log_file: Path) -> None:
    with EventLog(log_file) as log, pytest.raises(ValueError, match="no event type 'finished'"):
        log.append("finished")


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_torn_last_line_is_said_by_readers_and_cut_off_on_reopening(log_file: Path, cut: int) -> None:
    write_some(log_file, 3)
    os.truncate(log_file, log_file.stat().st_size - cut)
    events, offset, problems = read_events(log_file)
    assert [event["step"] for event in events] == [0, 1]
    assert problems == [f"{log_file}: the line of event 2 has no end"]
    with EventLog(log_file) as log:
        assert log.problems == [f"{problems[0]}; it was cut off"]
        assert log.append("metrics", step=50, values={}) == 2
    assert steps(log_file) == [0, 1, 50]
    assert steps(log_file, offset) == [50]
    assert read_events(log_file)[2] == []


def _alter(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"step":2', b'"step":3'), *lines[3:]]


def _space(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"step":2', b'"step": 2'), *lines[3:]]


def _remove(lines: list[bytes]) -> list[bytes]:
    return lines[:2] + lines[3:]


def _double(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[1], *lines[2:]]


def _garbage(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"\0\xff\n", *lines[2:]]


def _swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


@pytest.mark.parametrize("damage", [_alter, _space, _remove, _double, _garbage, _swap])
def test_a_changed_file_is_found_and_nothing_after_the_change_is_trusted(log_file: Path, damage) -> None:
    write_some(log_file)
    lines = log_file.read_bytes().splitlines(keepends=True)
    log_file.write_bytes(b"".join(damage(lines)))
    events, offset, problems = read_events(log_file)
    assert [event["step"] for event in events] == [0, 1]
    assert offset == len(lines[0] + lines[1])
    assert len(problems) == 1
    assert "the line of event 2" in problems[0]


def test_a_change_before_the_offset_that_hits_the_last_read_line_is_found(log_file: Path) -> None:
    write_some(log_file, 3)
    offset = read_events(log_file)[1]
    with EventLog(log_file) as log:
        log.append("metrics", step=9, values={})
    content = log_file.read_bytes()
    log_file.write_bytes(content[:5] + content[6:])
    events, same, problems = read_events(log_file, offset)
    assert (events, same) == ([], offset)
    assert "was altered before byte" in problems[0]


def test_a_file_that_became_shorter_is_found(log_file: Path) -> None:
    write_some(log_file)
    offset = read_events(log_file)[1]
    os.truncate(log_file, offset // 2)
    assert "events were removed" in read_events(log_file, offset)[2][0]
    log_file.unlink()
    assert "is gone" in read_events(log_file, offset)[2][0]


def test_reopening_an_altered_file_keeps_a_copy_and_goes_on_behind_what_is_good(log_file: Path) -> None:
    write_some(log_file)
    altered = b"".join(_alter(log_file.read_bytes().splitlines(keepends=True)))
    log_file.write_bytes(altered)
    with EventLog(log_file) as log:
        assert "was altered or removed" in log.problems[0]
        log.append("metrics", step=50, values={})
    assert steps(log_file) == [0, 1, 50]
    assert [path.read_bytes() for path in log_file.parent.glob("events.damaged-*")] == [altered]


def test_only_important_events_wait_for_the_disk(log_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with EventLog(log_file) as log:
        synced.clear()
        waits = {}
        for event_type in sorted(TYPES):
            log.append(event_type)
            waits[event_type] = len(synced)
            synced.clear()
    assert {name for name, count in waits.items() if count} == SYNCED
    assert {"started", "checkpoint", "done", "failed", "stopped"} == SYNCED


LIMITED = """
import resource, sys
from pathlib import Path
from tokexp.ledger.events import EventLog
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
written = 0
with EventLog(Path(sys.argv[1])) as log:
    for step in range(100):
        try:
            log.append("metrics", step=step, values={"loss": 0.5})
            written += 1
        except OSError as error:
            last = error
print(written, last.errno)
"""


def test_an_event_that_does_not_fit_on_the_disk_is_not_there_at_all(log_file: Path) -> None:
    written = int(run_script(LIMITED, log_file).split()[0])
    events, offset, problems = read_events(log_file)
    assert 0 < written < 100
    assert (len(events), offset, problems) == (written, log_file.stat().st_size, [])


KILLED = """
import sys
from pathlib import Path
from tokexp.ledger.events import EventLog
log = EventLog(Path(sys.argv[1]))
step = 0
while True:
    log.append("metrics", step=step, values={"loss": 0.5})
    step += 1
    if step == 1000:
        print("far enough", flush=True)
"""


def test_a_killed_writer_leaves_a_log_that_the_next_one_goes_on_with(log_file: Path) -> None:
    child = start_script(KILLED, log_file)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.wait()
    count = len(read_events(log_file)[0])
    assert count >= 1000
    with EventLog(log_file) as log:
        assert log.append("done") == count
    assert read_events(log_file)[2] == []


def test_an_event_that_is_not_synced_costs_little(log_file: Path) -> None:
    with EventLog(log_file) as log:
        best = math.inf
        for _ in range(20):
            start = time.process_time()
            for step in range(100):
                log.append("metrics", step=step, values={"loss": 0.5, "rate": 1e-3})
            best = min(best, (time.process_time() - start) / 100)
    assert best < 50e-6
