"""Two minutes of everything that a cluster does to jobs, at random, to a sweep of 24 trials on two nodes."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.dev_cluster import wait_for
from tests.cluster.scenes import MakeSite
from tests.cluster.site import Site
from tokexp.ledger.events import read_events

# One process of pytest works with the cluster.
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

SECONDS = 120
PAUSE = 4.0
"""Seconds between two disturbances."""

SWEEP = {
    "grid": {"tasks.finetune.train.lr": [1e-3, 2e-3, 4e-3, 8e-3], "tasks.finetune.train.weight_decay": [0.0, 0.1]},
    "seeds": [0, 1, 2],
}


def _preempt(site: Site, chance: random.Random) -> bool:
    site.cluster.intrude(chance.choice(["n1", "n2"]), 2)
    return True


def _requeue(site: Site, chance: random.Random) -> bool:
    running = site.cluster.queue(site.ref, "RUNNING")
    if running:
        subprocess.run(["scontrol", "requeue", chance.choice(running)])  # It may just have ended.
    return bool(running)


def _kill(site: Site, chance: random.Random) -> bool:
    """End the process of an attempt as a fault of the machine would."""
    alive = [event["pid"] for event in site.events("started") if _is_python(int(event["pid"]))]
    if alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(chance.choice(alive)), signal.SIGKILL)
    return bool(alive)


def _is_python(pid: int) -> bool:
    try:
        return b"submitit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _storm(site: Site) -> Counter[str]:
    """Disturb a sweep at random; one node is down for a third of the time. Return what was done how often."""
    chance = random.Random(0)
    done: Counter[str] = Counter()
    began, node = time.monotonic(), "n2"
    node_is_up = True
    while (passed := time.monotonic() - began) < SECONDS:
        if node_is_up and SECONDS / 4 < passed < SECONDS / 2:
            site.cluster.kill_node(node)
            node_is_up = False
            done["node"] += 1
        elif not node_is_up and passed > SECONDS * 7 / 12:
            site.cluster.start_node(node)
            node_is_up = True
        disturb = chance.choice([_preempt, _requeue, _kill])
        done[disturb.__name__] += disturb(site, chance)
        time.sleep(PAUSE)
    return done


@pytest.mark.slow
def test_a_storm_changes_no_number(make_site: MakeSite) -> None:
    straight = make_site("straight")
    straight.run_here(**SWEEP)
    site = make_site("storm")
    site.profile(partition="low", options={"exclude": "n3,n4,n5"})
    site.submit(**SWEEP)
    watch = [sys.executable, "-m", "tokexp", "tick", site.ref, "--watch", "--workspace", str(site.workspace.root)]
    with subprocess.Popen(watch, cwd=site.folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for("trials run", 120, lambda: site.events("checkpoint"))
            done = _storm(site)
            _, said = process.communicate(timeout=900)
        finally:
            process.kill()
    assert min(done[name] for name in ("_preempt", "_requeue", "_kill", "node")) > 0
    assert process.returncode == 0, said
    assert site.states() == ["done"] * 24
    events, _, _ = read_events(site.workspace.sweeps / site.ref / "trials.jsonl")
    ends = Counter(event["trial"] for event in events if event["e"] == "ended")
    assert len(ends) == 24
    assert set(ends.values()) == {1}
    assert len(site.events("done")) == 24, "nothing was computed twice"
    assert json.dumps(site.outputs()) == json.dumps(straight.outputs())
    site.finish()
    assert site.processes() == []
