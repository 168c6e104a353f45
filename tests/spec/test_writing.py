"""Resolved specs as YAML: they read back to the same experiment, with and without sources."""

from pathlib import Path

import pytest

from tests.spec.specs import GOOD, read, write
from tokexp.spec.reading import read_experiment
from tokexp.spec.writing import resolved, to_yaml


@pytest.mark.parametrize("with_sources", [False, True])
def test_a_resolved_spec_reads_back_to_the_same_experiment(tmp_path: Path, with_sources: bool) -> None:
    text = GOOD.replace("storage: {", "storage: {budget: 1.1 kB/image, ")
    spec = read(tmp_path, text, ["track.experiment='a: ${b} # c'".replace("${", "$${")])
    written = to_yaml(spec.experiment, spec.sources if with_sources else None)
    again = read_experiment(write(tmp_path, written, "again.yaml"))
    assert again.experiment == spec.experiment
    assert ("# preset paper" in written) == with_sources


def test_resolved_values_are_plain_and_complete(tmp_path: Path) -> None:
    values = resolved(read(tmp_path).experiment)
    assert values["schema"] == 1
    assert values["tokenizer"]["iterations"] == 25
    assert values["resources"]["default"]["memory"] == 4 * 10**9
