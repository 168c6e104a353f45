"""Paths into a sweep's document, whose own keys have dots: `--set grid.tokenizer.codebook_size=[8, 16]`."""

from collections.abc import Iterable

from tokexp.spec.yaml_tree import Item

_DIMENSION_WORDS = frozenset({"choice", "float", "int", "log", "step", "when"})


def sweep_keys(root: Item, parts: list[str]) -> list[str]:
    """Return the keys that the words of a path stand for in a sweep's document."""
    head, rest = parts[0], parts[1:]
    written = root.value.get(head) if isinstance(root.value, dict) else None
    known = written.value if written is not None and isinstance(written.value, dict) else {}
    if not rest or head not in ("set", "cases", "grid", "zip", "space", "policies"):
        return parts
    if head == "policies":
        return parts
    if head == "cases":
        case, inside = _key(rest, known, 1)
        values = known[case].value if case in known else None
        return [head, case, *_dotted(inside, values.keys() if isinstance(values, dict) else ())]
    if head == "space" and not _known_start(rest, known):
        cut = next((number for number, word in enumerate(rest) if number and word in _DIMENSION_WORDS), len(rest))
        return [head, ".".join(rest[:cut]), *rest[cut:]]
    return [head, *_dotted(rest, known)]


def _dotted(words: list[str], known: Iterable[str]) -> list[str]:
    if not words:
        return []
    key, inside = _key(words, known, len(words))
    return [key, *inside]


def _key(words: list[str], known: Iterable[str], otherwise: int) -> tuple[str, list[str]]:
    """Return the longest known key that the words start with and what is left; else so many words as one key."""
    size = _known_start(words, known) or otherwise
    return ".".join(words[:size]), words[size:]


def _known_start(words: list[str], known: Iterable[str]) -> int:
    names = set(known)
    return next((size for size in range(len(words), 0, -1) if ".".join(words[:size]) in names), 0)
