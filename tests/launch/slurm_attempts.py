"""Attempts that a SLURM launcher submitted: waiting for them, and what they wrote."""

import json
import time

from tests.launch.test_slurm_submission import tasks_of
from tokexp.launch.attempts import Tail

QUIET = ("metrics", "progress", "checkpoint")


def submit(launcher, workspace, *nodes):
    cluster = launcher._cluster
    return launcher.submit_many(tasks_of(nodes, workspace, cluster))


def wait(launcher, count=1, seconds=40):
    ended, limit = [], time.monotonic() + seconds
    while len(ended) < count and time.monotonic() < limit:
        ended += launcher.poll()
        time.sleep(0.05)
    return {end.handle: end for end in ended}


def until(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def job_of(handle):
    return json.loads((handle.folder / "slurm.json").read_text())["job"]


def begun(handle, step=1):
    tail = Tail(handle.folder)

    def at_work():
        tail.read()
        return (tail.step or 0) >= step

    until(at_work)


def kinds(handle):
    tail = Tail(handle.folder)
    return [e["e"] + (f" {e['reason']}" if "reason" in e else "") for e in tail.read() if e["e"] not in QUIET]
