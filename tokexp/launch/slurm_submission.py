"""From a cluster's profile to sbatch: options, the lines of the script, and the one call that submits an array.

submitit writes the script and pickles what runs in it: the name of a function and the path of an attempt's folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from tokexp.errors import InputError, TokexpError
from tokexp.spec.check_cluster import OWN_OPTIONS
from tokexp.spec.cluster import ClusterSpec, StagePlace
from tokexp.spec.resources import Resources

_TRANSIENT = ("Unable to contact slurm controller", "Socket timed out", "temporarily unavailable", "Connection refused")
_PAUSES = (1.0, 4.0, 12.0)
_OF_JOBS = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
_OF_GROUPS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def parameters(
    cluster: ClusterSpec, kind: str, resources: Resources, name: str, needs: str | None = None, count: int = 1
) -> dict[str, Any]:
    """Return what submitit is given for `count` jobs of a stage kind; None is an option that is left out.

    name: of the jobs. needs: the text of `--dependency`. Raises InputError for an option that tokexp sets itself.
    """
    place = {str(each): place for each, place in cluster.stages.items()}.get(kind, StagePlace())
    limit = resources.time or cluster.time
    memory = None if resources.memory is None else f"{-(-resources.memory // 2**20)}M"
    further: dict[str, Any] = {"requeue" if cluster.requeue else "no_requeue": True}
    if cluster.kill_invalid_dependency and needs is not None:
        further["kill_on_invalid_dep"] = "yes"
    given: dict[str, Any] = {
        "job_name": name, "time": -(-limit // 60), "nodes": resources.nodes,
        "ntasks_per_node": resources.members(), "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus or None, "mem": memory, "wckey": None, "dependency": needs,
        "partition": place.partition or cluster.partition, "account": place.account or cluster.account,
        "qos": place.qos or cluster.qos, "constraint": place.constraint or cluster.constraint,
        "signal_delay_s": cluster.signal_delay, "stderr_to_stdout": True, "setup": _setup(cluster, place) or None,
        "teardown": _teardown(cluster), "array_parallelism": cluster.parallel or count,
    }  # fmt: skip
    for option, value in {**cluster.options, **place.options}.items():
        _lay(option, value, given, further, cluster.name)
    return {**given, "additional_parameters": further, "srun_args": _srun(cluster, given["cpus_per_task"])}


def limit_of(cluster: ClusterSpec, resources: Resources) -> int:
    """Return the time limit of a job in seconds; SLURM counts whole minutes."""
    return 60 * (-(-(resources.time or cluster.time) // 60))


def _lay(option: str, value: Any, given: dict[str, Any], further: dict[str, Any], profile: str) -> None:
    name = option.replace("-", "_")
    if name in OWN_OPTIONS:
        why = f"is set by tokexp itself; {OWN_OPTIONS[name]}"
        raise InputError(f"the cluster profile {profile}: options.{option} {why}")
    left_out = value is None or value is False
    if name in given:
        given[name] = None if left_out else value
    elif not left_out:
        further[name] = value


def _srun(cluster: ClusterSpec, cpus: int | None) -> list[str]:
    """Return arguments of srun, which takes neither a changed environment nor (from 22.05 on) the cores over."""
    return ["--export=ALL", *([] if cpus is None else [f"--cpus-per-task={cpus}"]), *cluster.srun_args]


def _setup(cluster: ClusterSpec, place: StagePlace) -> list[str]:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    lines = [*cluster.setup, *place.setup]
    if not lines:
        return exports
    # A script goes on after a line that fails; the job would then run in the wrong environment.
    trap = """trap 'echo "tokexp: a setup line failed: $BASH_COMMAND" >&2; exit 1' ERR"""
    return [*exports, trap, *lines, "trap - ERR"]


def _teardown(cluster: ClusterSpec) -> list[str] | None:
    # The script's exit code is its last line's; without this, a failed job would count as done.
    return ["tokexp_status=$?", *cluster.teardown, "exit $tokexp_status"] if cluster.teardown else None


def python_command(cluster: ClusterSpec) -> str:
    """Return the shell words that start Python on a node."""
    if cluster.container is None:
        return shlex.quote(cluster.python or sys.executable)
    return shlex.join([*cluster.container.command, cluster.python or "python3"])


def script(cluster: ClusterSpec, folder: Path, given: Mapping[str, Any], count: int) -> str:
    """Return the sbatch text that `send` would submit from `folder`; nothing is written, SLURM is not needed."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{python_command(cluster)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    array = {"map_count": count} if count > 1 else {}
    return str(_make_sbatch_string(command=command, folder=folder, **given, **array))


def send(
    cluster: ClusterSpec, folder: Path, given: Mapping[str, Any], function: Callable[..., None], *texts: Sequence[str]
) -> str:
    """Submit one call of a function for each of the texts, as an array if there are several; return its job id.

    folder: where submitit keeps script, pickled texts and logs. texts: a list for each argument. Raises InputError
    with sbatch's own words if it refuses, TokexpError if SLURM cannot be reached.
    """
    missing = [command for command in ("sbatch", "srun") if shutil.which(command) is None]
    if missing:
        raise InputError(
            f"{missing[0]} is not on this machine: start tokexp where SLURM's commands are, such as a login node"
        )
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    # submitit prints what sbatch says before it raises it.
    with outside_of_jobs(), redirect_stderr(StringIO()):
        executor = SlurmExecutor(folder=folder, python=python_command(cluster))
        executor.update_parameters(**given)
        for pause in (*_PAUSES, None):
            try:
                return str(executor.map_array(function, *texts)[0].job_id).partition("_")[0]
            except (FailedJobError, FailedSubmissionError) as error:
                words = _sbatch_words(error)
                # A job that SLURM took without saying so finds no pickled path and ends: it is safe to ask again.
                if not any(text in words for text in _TRANSIENT):
                    raise InputError(f"SLURM refused {given['job_name']} ({cluster.name}): {words}") from error
                if pause is None:
                    raise TokexpError(f"SLURM cannot be reached to submit {given['job_name']}: {words}") from error
                time.sleep(pause)
    raise AssertionError


def _sbatch_words(error: Exception) -> str:
    lines = (line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line)) or "it gave no reason"


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the SLURM job that this process may run in: a job submitted here must not inherit them."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if (name.startswith(_OF_JOBS) and name != "SLURM_CONF") or name in _OF_GROUPS
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
