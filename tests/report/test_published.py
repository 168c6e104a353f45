"""Published values beside a sweep's own."""

import subprocess
import sys

import pytest

from tokexp.errors import InputError
from tokexp.report.published import in_its_unit, published_number, published_table, published_value
from tokexp.spec.published import Published

TABLE_2 = Published.model_validate(
    {
        "table": "seitpp/table-2",
        "column": "seit_wo_mtm",
        "cases": {
            "SeiT budget=1.4": {"where": {"storage_gb": 1.4}},
            "SeiT++ budget=0.3": {"where": {"storage_gb": 0.3}, "column": "seitpp_w_mtm"},
        },
    }
)


def test_a_value_is_read_from_the_column_of_its_case_or_of_the_sweep() -> None:
    assert published_value(TABLE_2, "SeiT budget=1.4") == 74.0
    assert published_number(TABLE_2, "SeiT++ budget=0.3") == ("seitpp_w_mtm", 60.6)


def test_a_case_that_the_table_does_not_know_has_no_value() -> None:
    assert published_value(TABLE_2, "SeiT budget=1.1") is None


def test_an_empty_cell_and_a_text_are_no_values() -> None:
    empty = {"table": "seitpp/table-b", "column": "extra_params_m", "cases": {"a": {"where": {"method": "SeiT"}}}}
    assert published_value(Published.model_validate(empty), "a") is None
    text = {**empty, "column": "method"}
    assert published_value(Published.model_validate(text), "a") is None


def test_a_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no published paper"):
        published_value(Published.model_validate("other/table-1"), "a")


def test_ours_is_shown_in_percent_only_where_both_are_shares() -> None:
    table = published_table("seitpp/table-7")
    assert in_its_unit(0.814, "finetune/top1", table) == pytest.approx(81.4)
    assert in_its_unit(0.814, "finetune/val_top1", table) == pytest.approx(81.4)
    assert in_its_unit(14.2, "storage/bytes_per_image", table) == 14.2


def test_reading_a_table_loads_nothing_heavy() -> None:
    program = "import sys; from tokexp.report.published import *; published_table('moto/table-1')\n"
    program += "print([name for name in ('torch', 'numpy', 'pandas', 'mlflow', 'optuna') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
