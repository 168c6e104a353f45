"""Numbers with units as people write them: sizes in bytes, durations, storage budgets, warm-up lengths."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tokexp.spec.base import Spec

_NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"
_BYTE_UNITS = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_TIME_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _with_unit(text: str, units: dict[str, int]) -> float:
    match = re.fullmatch(_NUMBER + r"([A-Za-z]+)\s*", text)
    if match is None or match[2] not in units:
        raise ValueError(f"a number with one of the units {', '.join(units)} is needed")
    amount = float(match[1]) * units[match[2]]
    if math.isinf(amount):
        raise ValueError("a smaller number is needed")
    return amount


def parse_bytes(value: Any) -> Any:
    """Turn '1.4 GB' (10^9) or '1.4 GiB' (2^30) into a whole number of bytes; other types pass through."""
    return round(_with_unit(value, _BYTE_UNITS)) if isinstance(value, str) else value


def parse_duration(value: Any) -> Any:
    """Turn '2 h', '30 min', '90 s' or '1 d' into whole seconds; other types pass through."""
    if not isinstance(value, str):
        return value
    seconds = round(_with_unit(value, _TIME_UNITS))
    if seconds < 1:
        raise ValueError("a time of at least 1 s is needed")
    return seconds


ByteCount = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
"""A size in bytes: a whole number, or text such as `64 GB` or `1.5 GiB`."""

Duration = Annotated[int, BeforeValidator(parse_duration), Field(ge=1)]
"""A time in seconds: a whole number, or text such as `30 min` or `2 h`."""


class Budget(Spec):
    """How many bytes the stored training set may take, everything counted.

    Written as `1.4 GiB` (in total) or `1.1 kB/image` (on average over the images of the source).
    """

    bytes: float = Field(gt=0, description="Bytes in total, or per image of the source.")
    per: Literal["total", "image"] = Field("total", description="What the bytes are counted over.")

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        amount, slash, image = given.partition("/")
        if slash and image.strip() != "image":
            raise ValueError("a budget is written like '1.4 GiB' or '1.1 kB/image'")
        return {"bytes": float(_with_unit(amount, _BYTE_UNITS)), "per": "image" if slash else "total"}


class Warmup(Spec):
    """How long the learning rate rises linearly at the start: `0.1` (a fraction), `5 epochs` or `500 steps`."""

    amount: float = Field(0.0, ge=0, description="How many of the unit.")
    unit: Literal["fraction", "epochs", "steps"] = Field("fraction", description="What the amount counts.")

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        if isinstance(given, bool):
            return given
        if isinstance(given, (int, float)):
            if not 0 <= given < 1:
                raise ValueError("a fraction from 0 to below 1 is needed, or text such as '5 epochs' or '500 steps'")
            return {"amount": float(given), "unit": "fraction"}
        if isinstance(given, str):
            match = re.fullmatch(_NUMBER + r"(epochs?|steps?)\s*", given)
            if match is None:
                raise ValueError("a fraction such as 0.1, or text such as '5 epochs' or '500 steps' is needed")
            return {"amount": float(match[1]), "unit": match[2].rstrip("s") + "s"}
        return given
