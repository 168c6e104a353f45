"""What this machine has for attempts: CPU cores and GPUs, and who has taken them."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field

from tokexp.spec.resources import Resources


def cpu_count() -> int:
    """Return the CPU cores that this process may use (its affinity, not the machine's size)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> tuple[str, ...]:
    """Return what CUDA_VISIBLE_DEVICES may hold here: its present members, or 0, 1, ... of `nvidia-smi -L`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines())))


@dataclass(frozen=True)
class Share:
    """What one attempt holds: a number of cores, and GPUs by name. `alone` means that nothing else runs beside it."""

    cpus: int
    gpus: tuple[str, ...] = ()
    alone: bool = False


@dataclass
class Slots:
    """The machine's cores and GPUs. An attempt that asks for more than there is gets everything, and runs alone."""

    cpus: int = field(default_factory=cpu_count)
    gpus: tuple[str, ...] = field(default_factory=gpu_names)
    _taken: list[Share] = field(default_factory=list)

    def shortage(self, resources: Resources) -> str | None:
        """Return what an attempt asks for beyond the whole machine, in words; None if it fits."""
        wanted = [(resources.cores(), self.cpus, "CPU cores"), (resources.gpus, len(self.gpus), "GPUs")]
        short = [f"{asked} {what} (there are {there})" for asked, there, what in wanted if asked > there]
        return " and ".join(short) or None

    def take(self, resources: Resources) -> Share | None:
        """Return a share for an attempt, or None while others hold what it needs."""
        if any(share.alone for share in self._taken):
            return None
        if self.shortage(resources) is not None:
            if self._taken:
                return None
            share = Share(self.cpus, self.gpus[: resources.gpus], alone=True)
        else:
            used = {name for held in self._taken for name in held.gpus}
            free = [name for name in self.gpus if name not in used]
            busy = sum(held.cpus for held in self._taken)
            if len(free) < resources.gpus or self.cpus - busy < resources.cores():
                return None
            share = Share(resources.cores(), tuple(free[: resources.gpus]))
        self._taken.append(share)
        return share

    def give_back(self, share: Share) -> None:
        """Free a share."""
        self._taken.remove(share)
