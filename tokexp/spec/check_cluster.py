"""What cannot work in a cluster profile."""

from collections.abc import Iterator, Mapping
from typing import Final

from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.findings import Finding
from tokexp.spec.yaml_tree import Path

OWN_OPTIONS: Final[Mapping[str, str]] = {
    "array": "parallel and max_array shape arrays", "dependency": "stages wait for what they need by themselves",
    "time": "use time, or resources", "signal": "use signal_delay", "output": "logs are kept with the attempts",
    "error": "logs are kept with the attempts", "open_mode": "logs are appended to", "requeue": "use requeue",
    "no_requeue": "use requeue", "kill_on_invalid_dep": "use kill_invalid_dependency", "wait": "leave it out",
    "parsable": "leave it out", "test_only": "use --dry-run", "wrap": "leave it out", "ntasks": "use resources.gpus",
    "ntasks_per_node": "use resources.gpus or processes",
}  # fmt: skip
"""Options of sbatch that tokexp sets itself, and what to use instead."""

_FIELDS = ("partition", "account", "qos", "constraint")


def option_word(name: str) -> str:
    """Return the one spelling of an option of sbatch, which may be written with '-' or '_'."""
    return name.replace("-", "_")


def check_cluster(cluster: ClusterSpec) -> list[Finding]:
    """Return all that cannot work in a valid profile."""
    findings = [*_check_options((), cluster.options, cluster)]
    for kind, place in cluster.stages.items():
        findings += _check_options(("stages", str(kind)), place.options, place)
    return [*findings, *_check_times(cluster)]


def _check_options(above: Path, options: Mapping[str, object], around: object) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in options:
        path, word = (*above, "options", name), option_word(name)
        if word in OWN_OPTIONS:
            yield Finding(
                path, f"tokexp sets --{word.replace('_', '-')} itself; {OWN_OPTIONS[word]}", (path,), at_key=True
            )
        elif word in seen:
            yield Finding(path, f"this is {seen[word]} once more; keep one of them", (path,), at_key=True)
        elif word in _FIELDS and getattr(around, word) is not None:
            yield Finding(path, f"{word} is written as a field too; keep one of them", (path, (*above, word)))
        seen.setdefault(word, name)


def _check_times(cluster: ClusterSpec) -> Iterator[Finding]:
    given: list[tuple[Path, int]] = [(("time",), cluster.time)]
    given += [(("resources", str(name), "time"), part.time) for name, part in cluster.resources.items() if part.time]
    for path, time in given:
        if time <= cluster.signal_delay:
            message = (
                f"{time} s given; more than signal_delay ({cluster.signal_delay} s) is needed, or a job is warned "
            )
            message += "before it begins"
            yield Finding(path, message, (path, ("signal_delay",)))
