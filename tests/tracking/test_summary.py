"""What a sweep's own run says of its cases, whatever their numbers and names."""

import math
from typing import Any

from tokexp.ledger.sweeps import Sweep, SweepRecord, TrialRecord
from tokexp.tracking.summary import describe, standings

TOP1 = {"name": "finetune/top1", "direction": "maximize"}


def sweep_of(*cases: str, **fields: Any) -> Sweep:
    record = SweepRecord(ref="s-12345678", name="s", spec_hash="12345678", metrics=(TOP1,), seeds=(0,), **fields)
    trials = [TrialRecord(case, number, case, {}, 0, case, {}, "done") for number, case in enumerate(cases)]
    return Sweep(record, tuple(trials))


def values(**found: float) -> dict[str, dict[str, float]]:
    return {case: {"finetune/top1": value} for case, value in found.items()}


def test_a_case_without_a_finite_number_is_never_the_best() -> None:
    sweep = sweep_of("a", "b", "c", "d")
    found = standings(sweep, values(a=math.nan, b=0.5, c=math.inf, d=0.7))
    assert [row.case for row in found["finetune/top1"]] == ["d", "b"]
    assert standings(sweep, values(a=math.nan)) == {"finetune/top1": []}


def test_a_name_stays_in_its_cell_of_the_description() -> None:
    sweep = sweep_of("a|b\n| c")
    found = standings(sweep, {"a|b\n| c": {"finetune/top1": 0.5}})
    assert describe(sweep, {"done": 1}, found).splitlines()[-1] == "| a/b / c | 0.5 |"
