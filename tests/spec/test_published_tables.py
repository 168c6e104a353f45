"""The published tables of the package, and the check of what a sweep names of them."""

import re
from pathlib import Path

import pytest

from tests.spec.specs import write
from tokexp.errors import InputError, SpecError
from tokexp.spec.published import Published
from tokexp.spec.published_tables import cell_of, check_published, is_number, papers, published_table, tables_of
from tokexp.spec.sweep_reading import read_sweep

ADAPTED = {"where": {"coloradapt": False, "tokenadapt": True}}
LARGEST = {"where": {"storage_gb": 1.4}}
BOTH = {"where": {"tokenadapt": True}}


def wrong(given: object) -> list[tuple[str, str]]:
    published = Published.model_validate(given)
    return [(".".join(map(str, finding.path)), finding.message) for finding in check_published(published)]


def test_five_papers_are_in_the_package() -> None:
    assert papers() == ("dtm", "mapet", "moto", "seit", "seitpp")


@pytest.mark.parametrize("paper", ["dtm", "mapet", "moto", "seit", "seitpp"])
def test_every_row_of_a_table_has_the_tables_columns(paper: str) -> None:
    tables = tables_of(paper)
    assert len(tables) >= 4
    for table in tables.values():
        assert table.rows
        assert all(set(row) == set(table.columns) for row in table.rows), table.name


def test_a_table_says_what_it_is() -> None:
    table = published_table("seitpp/table-7")
    assert table.paper.startswith("SeiT++")
    assert table.percent
    assert table.value_column() == "top1"
    assert [row["top1"] for row in table.rows] == [77.3, 78.3, 80.4, 81.4]
    assert published_table("seitpp/table-2").value_column() is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seitp/table-7", "no published paper 'seitp'; did you mean seitpp"),
        ("seitpp/table7", "seitpp has no table 'table7'; did you mean seitpp/table-7"),
        ("seitpp/nothing", "there are table-1, "),
    ],
)
def test_an_unknown_table_is_refused_with_the_nearest_name(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        published_table(name)


def test_a_described_case_is_found_by_its_values_and_true_is_not_one() -> None:
    row, column = cell_of(Published.model_validate({"table": "seitpp/table-7", "cases": {"TA": ADAPTED}}), "TA")
    assert row is not None
    assert (row["top1"], column) == (80.4, "top1")
    ones = {"where": {"coloradapt": 0, "tokenadapt": 1}}
    assert cell_of(Published.model_validate({"table": "seitpp/table-7", "cases": {"TA": ones}}), "TA")[0] is None


def test_a_case_without_description_is_found_by_its_name_if_one_row_has_it() -> None:
    published = Published.model_validate("seitpp/table-1")
    assert cell_of(published, "SeiT++")[0] == published_table("seitpp/table-1").rows[-1]
    assert cell_of(published, "nothing")[0] is None
    assert cell_of(Published.model_validate("seitpp/table-7"), "SeiT")[0] is None


def test_what_is_right_is_not_complained_about() -> None:
    assert wrong({"table": "seitpp/table-7", "cases": {"TA": ADAPTED}}) == []
    assert wrong({"table": "seitpp/table-2", "column": "seit_w_mtm", "cases": {"a": LARGEST}}) == []
    assert wrong("seitpp/table-2") == []


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        ({"table": "seitpp/table-77"}, "published.table", "did you mean seitpp/table-7"),
        ({"table": "seitpp/table-7", "column": "top-1"}, "published.column", "did you mean top1"),
        ({"table": "seitpp/table-2", "cases": {"a": LARGEST}}, "published.table", "name one"),
        ({"table": "seitpp/table-7", "cases": {"a": {"column": "tops", **ADAPTED}}},
         "published.cases.a.column", "top1"),
        ({"table": "seitpp/table-7", "cases": {"a": {"where": {"adapt": True}}}},
         "published.cases.a.where.adapt", "no column"),
        ({"table": "seitpp/table-7", "cases": {"a": {"where": {"top1": 1.0}}}}, "published.cases.a.where", "no row"),
        ({"table": "seitpp/table-7", "cases": {"a": BOTH}}, "published.cases.a.where", "2 rows"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_its_path(given: dict[str, object], path: str, words: str) -> None:
    ((found, message),) = wrong(given)
    assert found == path
    assert words in message


def test_a_sweep_that_names_a_missing_table_or_column_is_refused_at_its_line(tmp_path: Path) -> None:
    write(tmp_path, name="experiment.yaml")
    text = "schema: 1\nexperiment: experiment.yaml\ncases: {SeiT: {}}\n"
    for published, found in (
        ("published: seitpp/table-77\n", "sweep.yaml:4:12: published.table: seitpp has no table"),
        ("published:\n  table: seitpp/table-7\n  column: top-1\n", "sweep.yaml:6:11: published.column: seitpp/table-7"),
    ):
        with pytest.raises(SpecError, match=re.escape(found)):
            read_sweep(write(tmp_path, text + published, "sweep.yaml"))


def test_numbers_are_numbers() -> None:
    assert is_number(1)
    assert is_number(0.5)
    assert not is_number(True)
    assert not is_number("81.4")
