"""Statistics as people read them: means with intervals, differences in points, p values, parameters' values."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokexp.report.results import SHARES, value_text
from tokexp.report.statistics import Difference, Estimate

_LONGEST = 40
_PLUS_MINUS = "\u00b1"
_SAYS_LITTLE = frozenset({"kind", "p", "enabled", "name"})


def is_share(metric: str) -> bool:
    """Say whether a metric is a share of one, which is shown in percent."""
    return metric.rsplit("/", maxsplit=1)[-1].partition("_at_")[0] in SHARES


def estimate_text(metric: str, found: Estimate | None) -> str:
    """Return a mean, half its interval, and over how many seeds: `93.10 % +- 0.42 (n=3)`; without spread the mean."""
    if found is None:
        return "-"
    text = value_text(metric, found.mean)
    if found.half is None or (found.sd == 0.0 and not is_share(metric)):
        return f"{text} (n=1)" if found.n == 1 else text
    return f"{text} {_PLUS_MINUS} {_amount(metric, found.half)} (n={found.n})"


def difference_text(metric: str, found: Difference | None) -> str:
    """Return a difference with its sign and half its interval, shares in points; and how many seeds were paired."""
    if found is None:
        return "-"
    sign = "+" if found.mean >= 0 else "-"
    text = f"{sign}{_amount(metric, abs(found.mean))}"
    if found.low is not None and found.sd != 0.0:
        text += f" {_PLUS_MINUS} {_amount(metric, found.mean - found.low)}"
    if found.unpaired:
        return f"{text} ({found.n} of {found.n + len(found.unpaired)} seeds)"
    return f"{text} (n=1)" if found.n == 1 else text


def _amount(metric: str, value: float) -> str:
    return f"{100 * value:.2f}" if is_share(metric) else f"{value:.3g}"


def p_text(p: float | None, significant: bool | None = None) -> str:
    """Return a p value, marked by a star if it counts as significant; `-` where there is none."""
    if p is None:
        return "-"
    text = "<0.001" if p < 0.001 else f"{p:.3f}"
    return f"{text} *" if significant else text


def plain_text(value: Any) -> str:
    """Return a parameter's value on one short line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Return path to the fewest of its last words that no other path ends with: `storage.fraction` -> `fraction`.

    A word that says nothing alone has the one before it: `codec.kind`.
    """
    found = {}
    for path in paths:
        words = path.split(".")
        least = 2 if words[-1] in _SAYS_LITTLE else 1
        tails = (".".join(words[-count:]) for count in range(min(least, len(words)), len(words) + 1))
        found[path] = next(tail for tail in tails if sum(_ends(other, tail) for other in paths) <= 1 or tail == path)
    return found


def _ends(path: str, tail: str) -> bool:
    return path == tail or path.endswith(f".{tail}")


def states_text(states: Mapping[str, int]) -> str:
    """Return how many trials are in each state: `8 done, 1 failed, 3 to do`."""
    order = ("done", "running", "planned", "pruned", "failed", "stopped")
    names = {"planned": "to do"}
    return ", ".join(f"{states[state]:,} {names.get(state, state)}" for state in order if states.get(state))
