"""How verbs print: results to stdout, everything else to stderr, and one JSON object where that was asked for."""

import sys
from json import dumps
from typing import Any

from rich.console import Console
from rich.text import Text


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite become null, so that any reader takes it."""
    sys.stdout.write(dumps(_finite(value), indent=1, default=str) + "\n")


def print_scripts(ref: str, scripts: str, json: bool) -> None:
    """Print the batch scripts that would be submitted for a run or a sweep."""
    if json:
        print_json({"ref": ref, "scripts": scripts})
    else:
        console().print(Text(scripts))


def console() -> Console:
    """Return the console for results; lines are never cut where stdout is no terminal."""
    found = Console(file=sys.stdout, highlight=False)
    return found if found.is_terminal else Console(file=sys.stdout, highlight=False, width=200, soft_wrap=True)


def shown_state(state: str) -> str:
    """Return the word of a stage's or trial's state that people and programs read, the same in every verb."""
    return "to do" if state == "planned" else state


def say(message: str) -> None:
    """Print a remark to stderr."""
    sys.stderr.write(message + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
