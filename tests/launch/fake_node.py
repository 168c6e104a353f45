"""The Python of a node that runs fake stages: takes the words that submitit gives to an interpreter.

A stage whose label is `environment` prints what torch.distributed would read.
"""

import json
import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.launch import fake_stages
from tokexp import worker

COMMAND = f"{sys.executable} {Path(__file__).resolve()}"
GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def run_stage(job, context):
    if job.label.endswith(": environment"):
        sys.stdout.write(json.dumps({name: os.environ[name] for name in GROUP if name in os.environ}) + "\n")
    return fake_stages.run_stage(job, context)


if __name__ == "__main__":
    fake_stages.install()
    worker._run_stage = run_stage
    sys.argv = [sys.argv[0], sys.argv[-1]]
    runpy.run_module("submitit.core._submit", run_name="__main__", alter_sys=True)
