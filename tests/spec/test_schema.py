"""The JSON Schema and the list of kinds."""

import json
from typing import Any

import pytest

from tokexp.spec.base import Spec
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.schema import SCHEMA_ID, json_schema, kinds
from tokexp.spec.shape import fields_of
from tokexp.spec.sweep import SweepSpec


def _references(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*(_references(item) for item in node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*(_references(value) for value in node.values()))


def test_the_schema_is_json_with_a_name_and_every_block() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$id"] == SCHEMA_ID
    assert schema["title"]
    assert set(schema["else"]["properties"]) == {*fields_of(Experiment), "extends"}
    assert schema["else"]["required"] == ["schema", "data"]


@pytest.mark.parametrize(
    ("of", "spec", "required"),
    [("sweep", SweepSpec, ["schema", "experiment"]), ("cluster", ClusterSpec, ["schema"])],
)
def test_sweeps_and_profiles_have_schemas_of_their_own(of: str, spec: type[Spec], required: list[str]) -> None:
    schema = json.loads(json.dumps(json_schema(of)))
    assert schema["$id"] == SCHEMA_ID.replace("experiment", of)
    assert schema["title"] == f"tokexp {of}"
    assert set(schema["else"]["properties"]) == {*fields_of(spec), "extends"}
    assert schema["else"]["required"] == required
    assert "required" not in schema["then"]


@pytest.mark.parametrize("of", ["experiment", "sweep", "cluster"])
def test_every_definition_that_is_referred_to_exists(of: str) -> None:
    schema = json_schema(of)
    assert {name.removeprefix("#/$defs/") for name in _references(schema)} <= set(schema["$defs"])


def test_shorthands_are_allowed() -> None:
    defs = json_schema()["$defs"]
    assert {"type": "string"} in defs["Resources"]["properties"]["memory"]["anyOf"]
    assert {"type": "string"} in defs["Resources"]["properties"]["time"]["anyOf"]
    assert defs["Budget"]["anyOf"][0]["type"] == "string"
    assert defs["Warmup"]["anyOf"][0]["type"] == ["number", "string"]
    assert any("items" in one["anyOf"][0] for one in json_schema()["else"]["properties"]["augment"]["anyOf"][:1])


def test_any_value_may_be_a_reference_but_a_kind() -> None:
    fields = json_schema()["$defs"]["PatchKMeans"]["properties"]
    assert {"$ref": "#/$defs/Reference"} in fields["codebook_size"]["anyOf"]
    assert fields["kind"]["const"] == "patch_kmeans"


def test_a_file_that_extends_others_may_write_parts_of_blocks() -> None:
    schema = json_schema()
    assert "required" in schema["$defs"]["PatchKMeans"]
    assert "required" not in schema["$defs"]["PatchKMeans.part"]
    assert "required" not in schema["then"]
    assert schema["if"] == {"required": ["extends"]}


def test_what_sweeps_may_write_short_is_allowed() -> None:
    defs = json_schema("sweep")["$defs"]
    assert set(defs["Condition"]["anyOf"][0]["type"]) == {"string", "number", "boolean", "null", "array"}
    assert defs["Published"]["anyOf"][0]["type"] == "string"
    fields = json_schema("sweep")["else"]["properties"]
    case = fields["cases"]["anyOf"][0]["additionalProperties"]
    assert {"$ref": "#/$defs/Reference"} in case["anyOf"]
    assert {"type": "string"} in json_schema("cluster")["else"]["properties"]["poll"]["anyOf"]


@pytest.mark.parametrize("of", ["experiment", "sweep", "cluster"])
def test_every_field_is_described(of: str) -> None:
    for name, one in json_schema(of)["$defs"].items():
        for field, schema in one.get("properties", {}).items():
            assert field == "kind" or "description" in schema, f"{name}.{field}"


def test_all_blocks_list_their_kinds_with_what_they_are() -> None:
    found = kinds()
    assert set(found) == {
        "data", "tokenizer", "codec", "reduce", "stem", "model", "augment", "objective", "terms", "tasks", "evaluate",
        "sampler", "pruner", "quantizer", "target", "grouper",
    }  # fmt: skip
    assert "mtm" in dict(found["objective"])
    assert dict(found["model"])["vit"]
    assert "halves" in dict(found["augment"])
    assert all(about.endswith((".", ")")) for rows in found.values() for _, about in rows)
