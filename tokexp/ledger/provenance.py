"""Where a result came from: code, package versions, machine, command line. Quick, and nothing here can fail a run."""

import os
import platform
import re
import socket
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

PATCH_LIMIT = 256 * 1024
"""Bytes of uncommitted changes that are kept; what was cut off is said."""

SCHEDULER_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_NAME",
    "SLURM_JOB_PARTITION", "SLURM_JOB_QOS", "SLURM_JOB_ACCOUNT", "SLURM_JOB_NODELIST", "SLURM_NODELIST",
    "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS",
    "SLURM_CLUSTER_NAME", "SLURM_SUBMIT_DIR", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""What is kept of the scheduler's environment; SLURM_JWT and others that are secret are not in it."""

_GIT_TIMEOUT_S = 2.0


def collect_provenance(folder: Path | None = None) -> dict[str, Any]:
    """Return JSON-ready facts about code, versions, machine and command; `folder` (else here) is asked for git."""
    return {
        "time": time.time(),
        "git": git_state(folder or Path.cwd()),
        "versions": package_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": _gpu_models(),
        "argv": list(sys.argv),
        "scheduler": {name: os.environ[name] for name in SCHEDULER_VARIABLES if name in os.environ},
    }


@cache
def package_versions() -> dict[str, str]:
    """Return the installed versions of tokexp and of what it depends on; packages that are missing are left out."""
    try:
        needed = [line for line in requires("tokexp") or [] if "extra ==" not in line]
        wanted = [re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0] for line in needed]
    except PackageNotFoundError:
        wanted = []
    found = {}
    for name in sorted({"tokexp", *wanted}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and uncommitted changes of the repository around a folder; None if there is none."""
    head = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD", "--show-toplevel")
    if head is None or len(lines := head.decode(errors="replace").splitlines()) != 3:
        return None
    patch = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or b""
    return {
        "commit": lines[0],
        "branch": lines[1],
        "repository": lines[2],
        "dirty": bool(patch),
        "patch": patch[:PATCH_LIMIT].decode(errors="replace"),
        "patch_bytes": len(patch),
    }


def _git(folder: Path, *arguments: str) -> bytes | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _gpu_models() -> list[str]:
    models = []
    try:
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            named = re.search(r"^Model:\s*(.+)$", path.read_text(errors="replace"), re.MULTILINE)
            models.append(named[1].strip() if named else "unknown")
    except OSError:
        return models
    return models
