"""Paths of `--set` into documents whose own keys have dots."""

import pytest

from tokexp.spec.sweep_paths import sweep_keys
from tokexp.spec.yaml_tree import Place, from_plain

ROOT = from_plain(
    {
        "grid": {"a.b": [1, 2]},
        "cases": {"v 1.0": {"a.b": 1}, "v 1": {}},
        "space": {"a.step": {"int": [1, 2]}},
        "zip": 5,
    },
    Place("f"),
)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("seeds", ["seeds"]), ("budget.trials", ["budget", "trials"]),
        ("policies.p.0.kind", ["policies", "p", "0", "kind"]),
        ("grid.a.b", ["grid", "a.b"]), ("grid.a.b.1", ["grid", "a.b", "1"]), ("grid.c.d.e", ["grid", "c.d.e"]),
        ("set.c.d", ["set", "c.d"]), ("zip.c.d", ["zip", "c.d"]), ("cases", ["cases"]),
        ("cases.v 1.0.a.b", ["cases", "v 1.0", "a.b"]), ("cases.v 1.a.b", ["cases", "v 1", "a.b"]),
        ("cases.new.a.b", ["cases", "new", "a.b"]), ("cases.new", ["cases", "new"]),
        ("space.a.step", ["space", "a.step"]), ("space.a.step.int", ["space", "a.step", "int"]),
        ("space.c.d.float", ["space", "c.d", "float"]), ("space.c.d.when.e.f", ["space", "c.d", "when", "e", "f"]),
    ],
)  # fmt: skip
def test_the_words_of_a_path_become_the_keys_of_the_document(path: str, keys: list[str]) -> None:
    assert sweep_keys(ROOT, path.split(".")) == keys
