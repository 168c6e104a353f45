"""What a field needs, in plain words, from its type and bounds: `a whole number from 2 to 65536`."""

from typing import Any, Literal, get_args, get_origin

from pydantic import BeforeValidator

from tokexp.spec.augment import AugmentSpec
from tokexp.spec.conditions import Condition
from tokexp.spec.published import Published
from tokexp.spec.shape import Slot, field_words, kind_words, slot_of
from tokexp.spec.units import Budget, Warmup, parse_bytes, parse_duration
from tokexp.spec.wording import listed

_UNITS = {
    parse_bytes: "a whole number of bytes, or text such as '64 GB',",
    parse_duration: "a whole number of seconds, or text such as '2 h',",
}
_SHORTHANDS = {
    AugmentSpec: "a list of steps such as [{kind: mixup}], or a block of lists under pretrain and task,",
    Budget: "text such as '1.4 GiB' or '1.1 kB/image'",
    Warmup: "a fraction such as 0.1, or '5 epochs',",
    Condition: "a value, a list of values, or a block such as {below: 0.1}",
    Published: "a paper and a table such as seitpp/table-7",
}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts", Any: "values"}
_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}


def needed(slot: Slot) -> str:
    """Return what must be written in a slot, such as `one of a, b or c`, or `true or false`."""
    if slot.kinds:
        words = kind_words(slot)
        return f"a block with a kind ({', '.join(words)})" if words else f"a block with {listed(field_words(slot))}"
    if slot.spec is not None:
        return _SHORTHANDS.get(slot.spec, "a block of fields")
    for mark in slot.marks:
        if isinstance(mark, BeforeValidator) and mark.func in _UNITS:
            return _UNITS[mark.func]
    if get_origin(slot.type) is tuple:
        return _list_of(slot)
    if get_origin(slot.type) is dict:
        return "a block of named parts"
    if get_origin(slot.type) is Literal:
        choices = [str(choice) for choice in get_args(slot.type)]
        return f"one of {listed(choices)}" if len(choices) > 1 else choices[0]
    return _scalar(slot)


def bound(slot: Slot, name: str) -> Any:
    """Return the value of a bound (`ge`, `gt`, `le`, `lt`, `multiple_of`, ...) of a slot, or None."""
    return next((getattr(mark, name) for mark in slot.marks if getattr(mark, name, None) is not None), None)


def _scalar(slot: Slot) -> str:
    if slot.type is bool:
        return "true or false"
    if slot.type in (int, float):
        noun = "a whole number" if slot.type is int else "a number"
        multiple = bound(slot, "multiple_of")
        return f"{noun}{_range(slot)}" + (f", a multiple of {multiple}," if multiple else "")
    return "text"


def _range(slot: Slot) -> str:
    least, above, most, below = (bound(slot, name) for name in ("ge", "gt", "le", "lt"))
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None and below is not None:
        return f" from {least} to below {below}"
    parts = [f" above {above}"] if above is not None else [f" of at least {least}"] if least is not None else []
    parts += [f" of at most {most}"] if most is not None else [f" below {below}"] if below is not None else []
    return " and".join(parts)


def _list_of(slot: Slot) -> str:
    args = get_args(slot.type)
    if slot.item is None:
        inner = slot_of(args[0])
        plural = "lists" if get_origin(inner.type) is tuple else _PLURALS.get(inner.type, "values")
        return f"a list of {_COUNTS.get(len(args), len(args))} {plural}"
    plural = "steps" if slot.item.kinds else _PLURALS.get(slot.item.type, "blocks")
    return f"a list of {plural}, not empty," if bound(slot, "min_length") else f"a list of {plural}"
