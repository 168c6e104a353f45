"""A search that is interrupted and opened again goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.search.sweeps import BYTES, CONDITIONAL, MIXED, NUMBERS, TOP1, run, score, sweep_of
from tokexp.search import samplers
from tokexp.search.study import Search

SAMPLERS = [
    {"kind": "random"},
    {"kind": "tpe", "startup": 4},
    {"kind": "tpe", "startup": 4, "multivariate": False},
    {"kind": "cmaes", "population": 4},
    {"kind": "cmaes", "population": 4, "margin": True},
    {"kind": "nsga2", "population": 4},
    {"kind": "nsga3", "population": 4},
    {"kind": "qmc"},
    {"kind": "qmc", "sequence": "halton", "scramble": False},
]


def in_waves(open_search, sweep, waves, width=3):
    """Keep `width` trials running, told in another order than asked, and open the search anew for each wave."""
    asked = []
    for wave in range(waves):
        search = open_search()
        while len(search.running()) < width:
            asked.append(search.ask())
        numbers = sorted(search.running(), key=lambda number: (number * 7 + wave) % 5)
        for number in numbers[: 1 + wave % 2]:
            values = search.running()[number].values
            results = [score(values)] + [float(len(str(values)))] * (len(sweep.metrics) - 1)
            search.tell(number, results, constraints=[score(values)] * len(sweep.constraints))
    return [(point.number, point.values) for point in asked]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: "-".join(map(str, sampler.values())))
def test_a_restarted_search_asks_for_what_it_would_have_asked_for(tmp_path, sampler):
    sweep = sweep_of(MIXED, sampler=sampler)
    going = Search(tmp_path / "going", sweep)
    expected = in_waves(lambda: going, sweep, 20)
    assert in_waves(lambda: Search(tmp_path / "restarted", sweep), sweep, 20) == expected
    assert len({str(values) for _, values in expected}) > len(expected) / 2


@pytest.mark.parametrize("kind", ["tpe", "nsga2"])
def test_the_same_holds_with_conditions_constraints_and_several_metrics(tmp_path, kind):
    sweep = sweep_of(
        CONDITIONAL,
        sampler={"kind": kind, **({"startup": 4} if kind == "tpe" else {"population": 4})},
        metrics=[TOP1, BYTES],
        constraints=[{"metric": "storage/bytes_per_image", "at_most": 1.0}],
    )
    going = Search(tmp_path / "going", sweep)
    expected = in_waves(lambda: going, sweep, 20)
    assert in_waves(lambda: Search(tmp_path / "restarted", sweep), sweep, 20) == expected


def test_the_same_holds_for_a_gaussian_process(tmp_path):
    sweep = sweep_of(NUMBERS, sampler={"kind": "gp", "startup": 3})
    going = Search(tmp_path / "going", sweep)
    expected = in_waves(lambda: going, sweep, 5)
    assert in_waves(lambda: Search(tmp_path / "restarted", sweep), sweep, 5) == expected


def test_the_same_holds_in_another_process_with_another_hash_seed(tmp_path):
    program = (
        "import json, sys; from pathlib import Path\n"
        "from tests.search.sweeps import CONDITIONAL, sweep_of, values_after\n"
        "sweep = sweep_of(CONDITIONAL, sampler={'kind': 'tpe', 'startup': 4})\n"
        "print(json.dumps(values_after(Path(sys.argv[1]), sweep, 15)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert len(json.loads(outputs.pop())) == 15


@pytest.mark.parametrize("kind", ["random", "tpe", "cmaes", "nsga2", "qmc"])
def test_other_seeds_ask_for_other_points(tmp_path, kind):
    points = [
        [asked.values for asked in run(Search(tmp_path / str(seed), sweep_of(NUMBERS, sampler=sampler)), 3)]
        for seed in (0, 1)
        for sampler in [{"kind": kind, "seed": seed}]
    ]
    assert points[0] != points[1]


def test_a_search_in_a_database_goes_on_too(tmp_path):
    sampler = {"kind": "tpe", "startup": 3}
    stored = {**sampler, "storage": f"sqlite:///{tmp_path / 'study.db'}"}
    expected = in_waves(lambda: Search(tmp_path / "journal", sweep_of(MIXED, sampler=sampler)), sweep_of(MIXED), 8)
    assert in_waves(lambda: Search(tmp_path, sweep_of(MIXED, sampler=stored)), sweep_of(MIXED), 8) == expected
    assert not (tmp_path / "study.journal").exists()


def test_a_storage_that_cannot_be_opened_is_said_without_its_password(tmp_path):
    from tokexp.errors import InputError

    with pytest.raises(InputError, match=r"cannot open the storage nonsense://\.\.\.@host/db") as caught:
        Search(tmp_path, sweep_of(NUMBERS, sampler={"kind": "tpe", "storage": "nonsense://me:secret@host/db"}))
    assert "secret" not in str(caught.value)


def test_no_pickle_is_on_the_disk(tmp_path):
    run(Search(tmp_path, sweep_of(NUMBERS, sampler={"kind": "cmaes", "population": 4})), 20)
    journal = (tmp_path / "study.journal").read_text()
    assert "tokexp:redrawn" in journal
    assert ":optimizer" not in journal


def test_what_was_handed_out_holds_even_if_it_would_be_drawn_otherwise_now(tmp_path, monkeypatch):
    sweep = sweep_of(NUMBERS, sampler={"kind": "cmaes", "population": 4})
    expected = [asked.values for asked in run(Search(tmp_path, sweep), 20)]
    monkeypatch.setattr(samplers, "trial_seed", lambda seed, number: number + 17)
    search = Search(tmp_path, sweep)
    assert [row.values for row in search.rows()] == expected
    assert [dict(trial.params) for trial in search._studies.memory.all()] == expected


LIVING = """
import json, sys
from pathlib import Path
from tests.search.sweeps import MIXED, score, sweep_of
from tokexp.search.study import Search

search = Search(Path(sys.argv[1]), sweep_of(MIXED, **json.loads(sys.argv[2])))
print("ready", flush=True)
while True:
    asked = search.ask()
    print("asked", asked.number, json.dumps(asked.values), flush=True)
    for step in range(3):
        search.report(asked.number, step, score(asked.values))
        print("reported", asked.number, step, flush=True)
    if asked.number % 3:
        search.tell(asked.number, [score(asked.values)])
        print("told", asked.number, flush=True)
"""


def killed_after(folder, count, seconds, fields):
    """Run a search in a process, kill it some time after it has said `count` lines; return all that it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVING, str(folder), json.dumps(fields)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    lines = [process.stdout.readline() for _ in range(count)]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait()
    return [line.split(maxsplit=2) for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("kind", ["tpe", "cmaes"])
def test_nothing_that_was_handed_out_or_told_is_lost_by_kill_9(tmp_path, kind):
    fields = {"sampler": {"kind": kind, "startup": 4}, "pruner": {"kind": "median", "metric": "val_top1"}}
    asked: dict[int, dict] = {}
    told: set[int] = set()
    for round_ in range(5):
        for line in killed_after(tmp_path / "killed", 11 + 4 * round_, 0.0013 * round_, fields):
            if line[0] == "asked":
                number, values = line[1], json.loads(line[2])
                assert int(number) not in asked
                asked[int(number)] = values
            elif line[0] == "told":
                told.add(int(line[1]))
        search = Search(tmp_path / "killed", sweep_of(MIXED, **fields))
        known = {number: point.values for number, point in search.running().items()}
        known |= {number: each.params for number, each in search.told().items()}
        assert asked.items() <= known.items()
        assert told <= search.told().keys()
        assert sorted(known) == list(range(len(known)))
        assert all(list(values) == list(MIXED) for values in known.values())
        # What was written a moment before the kill, and not yet said.
        asked, told = known, set(search.told())
    assert len(told) >= 5


def test_a_lock_of_a_killed_process_is_not_waited_for(tmp_path):
    run(Search(tmp_path, sweep_of(NUMBERS)), 1)
    journal = tmp_path / "study.journal"
    (tmp_path / "study.journal.lock").symlink_to(journal)
    (tmp_path / "study.journal.lock0123.rename").symlink_to(journal)
    run(Search(tmp_path, sweep_of(NUMBERS)), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_half_a_line_at_the_end_is_cut_off(tmp_path, cut):
    sweep = sweep_of(NUMBERS)
    search = Search(tmp_path, sweep)
    run(search, 2)
    lost = search.ask()
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    search = Search(tmp_path, sweep)
    assert list(search.told()) == [0, 1]
    assert search.running() == {}
    again = search.ask()
    assert again == lost
    search.tell(again.number, [1.0])
    assert list(Search(tmp_path, sweep).told()) == [0, 1, 2]


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.search.sweeps import MIXED, run, sweep_of
from tokexp.search.study import Search

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
search = Search(Path(sys.argv[1]), sweep_of(MIXED))
run(search, 3)
size = (Path(sys.argv[1]) / "study.journal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    search.ask()
except OSError as error:
    print(type(error).__name__, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
asked = search.ask()
search.tell(asked.number, [1.0])
print(asked.number, list(search.told()))
"""


def test_a_full_disk_is_an_error_and_the_search_goes_on_when_there_is_room(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["OSError", "3 [0, 1, 2, 3]"]
    assert list(Search(tmp_path, sweep_of(MIXED)).told()) == [0, 1, 2, 3]
