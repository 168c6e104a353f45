"""The base class of every spec, presets, and the mark for fields that do not decide a result."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator


def neutral(default: Any, **options: Any) -> Any:
    """Declare a field that cannot change a result (workers, devices, paths): it stays out of every stage key."""
    return Field(default, json_schema_extra={"neutral": True}, **options)


def added(default: Any, **options: Any) -> Any:
    """Declare a field that came to a kind later: it enters stage keys where it differs from its default.

    So the keys of everything that was computed before it existed stay as they were.
    """
    return Field(default, json_schema_extra={"added": True}, **options)


ALTERNATIVES = ({"epochs", "steps"}, {"budget", "fraction"})
"""Fields of which a written one puts the others' inherited values aside."""


def merge_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `given` over `defaults`: mappings merge unless their `kind` differs, everything else replaces."""
    dropped = {name for group in ALTERNATIVES if group & given.keys() for name in group}
    merged = {key: value for key, value in defaults.items() if key not in dropped}
    for key, value in given.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and _same_kind(below, value):
            merged[key] = merge_defaults(below, value)
        else:
            merged[key] = value
    return merged


def _same_kind(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return bool(value.get("kind", below.get("kind")) == below.get("kind"))


class Spec(BaseModel):
    """A validated, frozen piece of an experiment.

    Unknown keys are errors and scalars are never converted (the text "1e-3" is not a number). A class with
    `PRESETS` fills what was not written from the preset named by its `preset` field; a written field wins.
    Sequences are tuples, so that a spec is hashable where it holds no mapping; lists are taken and turned into them.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, defer_build=True, allow_inf_nan=False, populate_by_name=True
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Per preset name, the values of the fields that nobody wrote."""

    PRESET_FIELD: ClassVar[str] = "preset"
    """The field that names the preset."""

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        if not isinstance(given, (dict, Mapping)):  # an abstract class alone is slow to ask
            return given
        given = {key: _tuples(value) if type(value) is list else value for key, value in given.items()}
        if not cls.PRESETS:
            return given
        name = given.get(cls.PRESET_FIELD, cls.model_fields[cls.PRESET_FIELD].default)
        values = cls.PRESETS.get(name) if isinstance(name, str) else None
        return given if values is None else merge_defaults(values, given)

    def relevant(self) -> dict[str, Any]:
        """Return the JSON-ready values of all result-relevant fields, defaults included, neutral ones left out."""
        values, later = self.__dict__, _added_fields(type(self))
        found: dict[str, Any] = {}
        for name in _relevant_fields(type(self)):
            value = values[name]
            if name not in later or value != later[name]:
                found[name] = _plain(value)
        return found

    def relevant_part(self, name: str) -> Any:
        """Return the JSON-ready value of one field, neutral ones inside it left out."""
        return _plain(getattr(self, name))


def field_value(spec: object, name: str, default: Any = None) -> Any:
    """Return a field of a spec, or `default` where its kind has none.

    As `getattr`, which takes pydantic ten times as long to say that there is none: checks ask thousands of specs.
    """
    return getattr(spec, "__dict__", {}).get(name, default)


@cache
def _relevant_fields(spec: type[Spec]) -> tuple[str, ...]:
    return tuple(
        name
        for name, field in spec.model_fields.items()
        if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("neutral"))
    )


@cache
def _added_fields(spec: type[Spec]) -> dict[str, Any]:
    return {
        name: field.default
        for name, field in spec.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("added")
    }


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Spec):
        return value.relevant()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
