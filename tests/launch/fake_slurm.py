"""A SLURM in one file: `sbatch`, `srun`, `squeue`, `sacct`, `scontrol` and `scancel`, backed by a JSON file.

The scripts are really run. `FakeSlurm` makes the commands and disturbs the jobs; as a script, this is all of them.

Its folder may hold files: `refuse` (sbatch fails with their text), `deaf` (squeue and scontrol do not answer),
`no_accounting` (sacct fails), `forgetful` (ended jobs are not shown by squeue), `closed` (nothing starts).
"""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")
LIVE = ("PENDING", "RUNNING", "COMPLETING")


class FakeSlurm:
    """The cluster, for tests: `folder/bin` goes on PATH."""

    def __init__(self, folder, cpus=2):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for command in COMMANDS:
            file = self.bin / command
            file.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} {command} "$@"\n')
            file.chmod(0o755)
        with state_of(folder) as state:
            state.update(next=1, cpus=cpus, calls=[], jobs={})

    def __getitem__(self, job):
        with state_of(self.folder) as state:
            return state["jobs"][job]

    def calls(self, command):
        with state_of(self.folder) as state:
            return [call for call in state["calls"] if call[0] == command]

    def jobs(self):
        with state_of(self.folder) as state:
            return state["jobs"]

    def signal(self, job, number):
        for pid in self[job]["tasks"]:
            os.kill(pid, number)

    def lose(self, job):
        """The node of a job dies: its processes are gone at once, and SLURM runs it again."""
        with state_of(self.folder) as state:
            state["jobs"][job]["again"] = True
        _kill(self[job], signal.SIGKILL)

    def edit(self, job, **fields):
        with state_of(self.folder) as state:
            state["jobs"][job].update(fields)

    def forget(self, job):
        with state_of(self.folder) as state:
            del state["jobs"][job]

    def start(self):
        (self.folder / "closed").unlink(missing_ok=True)
        tick(self.folder)

    def end(self):
        (self.folder / "closed").touch()
        for job in self.jobs().values():
            _kill(job, signal.SIGKILL)


@contextmanager
def state_of(folder):
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = folder / "state.json"
        state = json.loads(file.read_text()) if file.exists() else {}
        yield state
        file.write_text(json.dumps(state))


def tick(folder):
    """Start what can start; end what waits in vain."""
    with state_of(folder) as state:
        jobs = state["jobs"]
        changed = True
        while changed:
            changed = False
            for job in jobs.values():
                if job["state"] != "PENDING":
                    continue
                ready = [_fulfilled(term, job, jobs) for term in job["needs"]]
                if False in ready:
                    job["reason"] = "DependencyNeverSatisfied"
                    if job["kill"]:
                        job["state"], changed = "CANCELLED", True
                elif None not in ready:
                    _start(folder, state, job)


def _fulfilled(term, job, jobs):
    """True: it ended well; False: it did not; None: it has not ended."""
    kind, _, ids = term.partition(":")
    wanted = [f"{ids}_{job['index']}"] if kind == "aftercorr" else ids.split(":")
    states = [each["state"] for each in jobs.values() if each["id"] in wanted or each["base"] in wanted]
    if any(state not in (*LIVE, "COMPLETED") for state in states):
        return False
    return True if all(state == "COMPLETED" for state in states) else None


def _start(folder, state, job):
    used = sum(each["cpus"] for each in state["jobs"].values() if each["state"] in ("RUNNING", "COMPLETING"))
    if used + job["cpus"] > state["cpus"] or (folder / "closed").exists():
        return
    job.update(state="RUNNING", reason="None", tasks=[], again=False, started=time.time())
    runner = subprocess.Popen(
        [sys.executable, __file__, str(folder), "run", job["id"]], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    job["runner"] = runner.pid


def run(folder, job_id):
    """Run a job's script to its end."""
    with state_of(folder) as state:
        job = state["jobs"][job_id]
    environment = json.loads(Path(job["environment"]).read_text())
    own = {"SLURM_JOB_ID": job["raw"], "SLURM_NTASKS": str(job["ntasks"]), "SLURM_JOB_NODELIST": "localhost"}
    if job["index"] is not None:
        own |= {"SLURM_ARRAY_JOB_ID": job["base"], "SLURM_ARRAY_TASK_ID": str(job["index"])}
    if job["restarts"]:
        own["SLURM_RESTART_COUNT"] = str(job["restarts"])
    with Path(_filled(job["output"], job)).open("ab") as log:
        code = subprocess.run(["bash", job["script"]], env={**environment, **own}, stdout=log, stderr=log).returncode
    with state_of(folder) as state:
        job = state["jobs"][job_id]
        if job["again"]:
            job.update(state="PENDING", reason="BeginTime", restarts=job["restarts"] + 1)
        elif job["state"] != "CANCELLED":
            job.update(
                state="FAILED" if code else "COMPLETED", exit=f"{code}:0", reason="NonZeroExitCode" if code else "None"
            )
    tick(folder)


def _filled(text, job):
    index = "" if job["index"] is None else str(job["index"])
    return text.replace("%A", job["base"]).replace("%a", index).replace("%j", job["id"])


def say(text):
    sys.stdout.write(text + "\n")


def sbatch(folder, script):
    if (folder / "refuse").exists():
        sys.exit((folder / "refuse").read_text())
    text = Path(script).read_text()
    given = {}
    for line in re.findall(r"^#SBATCH --(.*)$", text, re.MULTILINE):
        name, _, value = shlex.split(line)[0].partition("=")
        given[name] = value
    with state_of(folder) as state:
        base, count = str(state["next"]), 1
        array = re.match(r"0-(\d+)", given.get("array", ""))
        count = int(array[1]) + 1 if array else 1
        state["next"] += count
        (folder / f"environment-{base}").write_text(json.dumps(dict(os.environ)))
        for index in range(count):
            job = {
                "id": f"{base}_{index}" if array else base, "base": base, "index": index if array else None,
                "raw": str(int(base) + index), "script": str(script), "output": given["output"],
                "environment": str(folder / f"environment-{base}"), "limit": 60 * int(given["time"]),
                "cpus": int(given["cpus-per-task"]), "ntasks": int(given["nodes"]) * int(given["ntasks-per-node"]),
                "needs": given["dependency"].split(",") if "dependency" in given else [],
                "kill": given.get("kill-on-invalid-dep") == "yes", "requeue": "requeue" in given,
                "state": "PENDING", "reason": "None", "exit": "0:0", "restarts": 0, "tasks": [], "again": False,
                "started": time.time(), "runner": None,
            }  # fmt: skip
            state["jobs"][job["id"]] = job
    say(f"Submitted batch job {base}")
    tick(folder)


def srun(folder, *words):
    words = list(words)
    output = words[words.index("--output") + 1]
    command = words[next(n for n, word in enumerate(words) if n > 0 and not word.startswith("-") and word != output) :]
    environment = dict(os.environ)
    base, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job_id = f"{base}_{index}" if base else environment["SLURM_JOB_ID"]
    with state_of(folder) as state:
        job = state["jobs"][job_id]
    tasks = []
    for rank in range(job["ntasks"]):
        with Path(_filled(output, job).replace("%t", str(rank))).open("ab") as log:
            own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_NUM_TASKS": str(job["ntasks"])}
            tasks.append(subprocess.Popen(command, env={**environment, **own}, stdout=log, stderr=log))
    with state_of(folder) as state:
        state["jobs"][job_id]["tasks"] = [task.pid for task in tasks]
    codes = [task.wait() for task in tasks]
    sys.exit(max(128 - code if code < 0 else code for code in codes))


def squeue(folder, *words):
    _answer(folder)
    wanted = next((word[7:].split(",") for word in words if word.startswith("--jobs=")), None)
    old = "--states=all" in words and not (folder / "forgetful").exists()
    with state_of(folder) as state:
        jobs = [job for job in state["jobs"].values() if wanted is None or job["base"] in wanted]
        if wanted is not None and len(wanted) == 1 and not jobs:
            sys.exit("slurm_load_jobs error: Invalid job id specified")
        for job in jobs:
            if old or job["state"] in LIVE:
                say(f"{job['id']}|{job['state']}|{job['reason']}|{job['script']}")


def sacct(folder, *words):
    if (folder / "no_accounting").exists():
        sys.exit("Slurm accounting storage is disabled")
    wanted = next(word[7:].split(",") for word in words if word.startswith("--jobs="))
    with state_of(folder) as state:
        for job in state["jobs"].values():
            if job["base"] in wanted:
                say(f"{job['id']}|{job['state']}|{job['exit']}|{job['reason']}")


def scontrol(folder, *words):
    _answer(folder)
    words = [word for word in words if word != "--oneliner"]
    with state_of(folder) as state:
        if words[0] == "requeue":
            job = state["jobs"][words[1]]
            if not job["requeue"]:
                sys.exit("Requested operation is presently disabled")
            job["again"] = True
        else:
            for job in state["jobs"].values():
                if words[2] in (job["id"], job["base"]):
                    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(job["started"] + job["limit"]))
                    array = f"ArrayJobId={job['base']} ArrayTaskId={job['index']} " if job["index"] is not None else ""
                    say(
                        f"JobId={job['raw']} {array}JobState={job['state']} Reason={job['reason']} EndTime={end} "
                        f"Restarts={job['restarts'] + job['again']} PreemptTime=None ExitCode={job['exit']}"
                    )
    if words[0] == "requeue":
        _kill(job, signal.SIGTERM)


def scancel(folder, *words):
    options, ids = (
        [word for word in words if word.startswith("-")],
        [word for word in words if not word.startswith("-")],
    )
    wanted = {each for text in ids for each in _expanded(text)}
    with state_of(folder) as state:
        jobs = [job for job in state["jobs"].values() if job["id"] in wanted or job["base"] in wanted]
        for job in jobs:
            if job["state"] == "PENDING" and "--signal=TERM" not in options:
                job["state"] = "CANCELLED"
            elif "--signal=TERM" in options:
                for pid in job["tasks"] if job["state"] == "RUNNING" else ():
                    os.kill(pid, signal.SIGTERM)
            elif "--state=PENDING" not in options and job["state"] in LIVE:
                job["state"] = "CANCELLED"
                _kill(job, signal.SIGTERM)
    tick(folder)


def _expanded(text):
    base, _, inside = text.partition("_[")
    if not inside:
        return [text]
    spans = [part.split("-") for part in inside.rstrip("]").split(",")]
    return [f"{base}_{number}" for span in spans for number in range(int(span[0]), int(span[-1]) + 1)]


def _kill(job, number):
    targets = [*job["tasks"], *([job["runner"]] if number == signal.SIGKILL and not job["again"] else [])]
    for pid in targets:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, TypeError):
            continue


def _answer(folder):
    if (folder / "deaf").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")


if __name__ == "__main__":
    place, name = Path(sys.argv[1]), sys.argv[2]
    if name != "run":
        with state_of(place) as known:
            known["calls"].append(sys.argv[2:])
    globals()[name](place, *sys.argv[3:])
