"""Words of messages: what was given, in short, and the nearest of some words."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST = 60
"""Most characters of a given value that a message repeats."""


def nearest(word: Any, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant, or None if none is close."""
    if not isinstance(word, str):
        return None
    lowered = {other.lower(): other for other in words}
    close = get_close_matches(word.lower()[:100], lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def did_you_mean(word: Any, words: Iterable[str]) -> str:
    """Return `; did you mean X?`, or nothing if no word is close."""
    close = nearest(word, words)
    return f"; did you mean {close}?{odd_characters(word)}" if close else ""


def odd_characters(word: Any) -> str:
    """Return ` (U+0435 stands in what is given)` for a word with letters that are not ASCII, which may look alike.

    Words of the language are ASCII: without this, the word that is given and the one that is meant can look the same.
    """
    odd = dict.fromkeys(f"U+{ord(letter):04X}" for letter in str(word)[:100] if not letter.isascii())
    return f" ({listed(odd, 'and')} stand{'s' if len(odd) == 1 else ''} in what is given)" if odd else ""


def shown(value: Any) -> str:
    """Return a given value as a message names it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a block of fields"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else _number(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def listed(words: Iterable[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else "none"


def _number(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 300:
        return "a number of more than 90 digits"
    return str(value)
