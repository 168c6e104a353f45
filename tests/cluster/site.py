"""A place to work in for one test: its own workspace, sweep and cluster profile; and what is done there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from tests.cluster.dev_cluster import PROFILE, DevCluster, wait_for
from tokexp.launch.attempts import Tail, attempts_of
from tokexp.ledger.events import Event, read_events
from tokexp.ledger.outputs import read_result, verify
from tokexp.ledger.sweeps import load_sweep
from tokexp.ledger.workspace import Workspace

EXPERIMENT = """\
schema: 1
name: tiny
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 8, iterations: 3}
storage: {fraction: 0.2}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
tasks:
  finetune: {kind: classify, init: scratch, train: {steps: 600, batch_size: 32, lr: 1.0e-3}}
resources: {default: {cpus: 1, device: cpu}}
track: {enabled: false}
"""
"""600 steps take seconds, and a checkpoint is written eight times."""


class Site:
    """One folder with an experiment, a profile and a workspace."""

    def __init__(self, cluster: DevCluster, folder: Path) -> None:
        self.cluster, self.folder, self.name = cluster, folder, folder.name
        self.workspace = Workspace(folder / "workspace")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "experiment.yaml").write_text(EXPERIMENT)
        self.profile()
        self.ref = ""
        self.programs: Path | None = None
        """A folder whose programs tokexp's commands find before SLURM's own."""

    def profile(self, **fields: Any) -> None:
        """Write the cluster profile: the development cluster's, and some fields."""
        base = os.path.relpath(PROFILE, self.folder)
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump({"schema": 1, "extends": base, **fields}))

    def tokexp(self, *arguments: str, code: int | None = 0) -> str:
        """Run one of tokexp's commands in a process of its own and return what it prints."""
        command = [sys.executable, "-m", "tokexp", *arguments, "--workspace", str(self.workspace.root)]
        path = os.pathsep.join(str(each) for each in (self.programs, os.environ["PATH"]) if each)
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert code is None or done.returncode == code, f"{arguments} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def submit(self, *options: str, **sweep: Any) -> None:
        """Write a sweep (without more, of one trial) and send it to the cluster."""
        self._sweep(sweep, "--on", "cluster.yaml", *options)

    def run_here(self, **sweep: Any) -> None:
        """Write a sweep and carry it out in one process of this machine."""
        self._sweep(sweep, "--launcher", "inline")

    def _sweep(self, sweep: dict[str, Any], *options: str) -> None:
        document = {"schema": 1, "name": self.name, "experiment": "experiment.yaml", **sweep}
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(document))
        self.ref = json.loads(self.tokexp("sweep", "sweep.yaml", "--json", *options))["ref"]

    def accounting(self, script: str) -> None:
        """Put a shell script in the place of `sacct` for tokexp's commands from now on."""
        self.programs = self.folder / "programs"
        self.programs.mkdir(exist_ok=True)
        (self.programs / "sacct").write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / "sacct").chmod(0o755)

    def images(self, count: int) -> None:
        """Write a folder of small random images, of two classes."""
        drawn = np.random.default_rng(0)
        for number in range(count):
            file = self.folder / "images" / f"class{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)

    def gpu_seconds(self) -> float:
        """Return the GPU seconds of all attempts, by their own events."""
        total = 0.0
        for attempt in self.attempts():
            events = read_events(attempt / "events.jsonl")[0]
            total += (events[-1]["t"] - events[0]["t"]) * events[0].get("gpus", 0) if events else 0.0
        return total

    def status(self) -> dict[str, Any]:
        """Return what `tokexp status` says of the sweep."""
        found: dict[str, Any] = json.loads(self.tokexp("status", self.ref, "--json"))
        return found

    def states(self) -> list[str]:
        """Return the states of the trials."""
        return [trial["state"] for trial in self.status()["trials"]]

    def finish(self, seconds: float = 300) -> None:
        """Wait until nothing of the sweep is in the queue."""
        wait_for(f"{self.ref} leaves the queue", seconds, lambda: not self.cluster.queue(self.ref), pause=0.5)

    def attempts(self, name: str = "finetune") -> list[Path]:
        """Return the folders of all attempts at the stages of a name."""
        nodes = load_sweep(self.workspace, self.ref).nodes
        return [each for key, node in nodes.items() if node.name == name for each in attempts_of(self.workspace, key)]

    def events(self, word: str, name: str = "finetune") -> list[Event]:
        """Return the events of one sort from all attempts at the stages of a name."""
        files = [attempt / "events.jsonl" for attempt in self.attempts(name)]
        found = [read_events(file)[0] for file in files if file.exists()]
        return [event for events in found for event in events if event["e"] == word]

    def restarts(self) -> list[str]:
        """Return why the only attempt at fine-tuning was started again, in order."""
        (attempt,) = self.attempts()
        tail = Tail(attempt)
        tail.read()
        return [cause for cause, _ in tail.restarts]

    def outputs(self) -> list[dict[str, Any]]:
        """Return, for every trial in order, the metrics and files of its stages, after reading all of them."""
        sweep = load_sweep(self.workspace, self.ref)
        found = []
        for trial in sweep.trials:
            stages = {}
            for name, key in trial.keys.items():
                folder = self.workspace.output(sweep.nodes[key].kind, key)
                assert verify(folder) == []
                files = json.loads((folder / "manifest.json").read_text())["files"]
                stages[name] = {"metrics": read_result(folder)["metrics"], "files": files}
            found.append(stages)
        return found

    def processes(self) -> list[str]:
        """Return the command lines of all processes that work in this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if any(str(self.folder) in word for word in (*words, process.cwd())):
                    found.append(" ".join(words))
            except psutil.Error:
                continue
        return found


def wake(pid: int) -> None:
    """Let a process go on that was stopped, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


class Hold(threading.Thread):
    """Stops processes of a site in the middle of a fine-tuning, however fast the machine is.

    Use as a context manager around what sends the sweep. SLURM wakes them: it sends SIGCONT before each warning.
    first_step: a process is stopped once it has written a checkpoint of this step or a later one. only: which attempts.
    """

    def __init__(self, site: Site, first_step: int, only: Callable[[dict[str, Any]], bool] = lambda job: True) -> None:
        super().__init__(daemon=True)
        self._site, self._first_step, self._only = site, first_step, only
        self._over = threading.Event()
        self.held: dict[Path, int] = {}
        """Attempts, and the ids of their processes."""

    def run(self) -> None:
        tails: dict[Path, Tail] = {}
        while not self._over.wait(0.05):
            for file in self._site.workspace.attempts.glob("*/events.jsonl"):
                self._look(tails.setdefault(file.parent, Tail(file.parent)))

    def _look(self, tail: Tail) -> None:
        events = tail.read()
        job = json.loads((tail.folder / "job.json").read_text())
        if tail.folder in self.held or job["payload"]["kind"] != "downstream" or not self._only(job):
            return
        if tail.last is None and any(
            event["e"] == "checkpoint" and event["step"] >= self._first_step for event in events
        ):
            pid = int(read_events(tail.folder / "events.jsonl")[0][0]["pid"])
            os.kill(pid, signal.SIGSTOP)
            self.held[tail.folder] = pid

    def job(self) -> str:
        """Wait until a process is held, and return its job."""
        wait_for(f"{self._site.name} is in the middle of its work", 240, lambda: self.held)
        (attempt,) = self.held
        return str(json.loads((attempt / "slurm.json").read_text())["job"])

    def __enter__(self) -> "Hold":
        self.start()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._over.set()
        self.join()
        for pid in self.held.values() if kind is not None else ():
            wake(pid)
