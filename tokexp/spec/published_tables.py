"""The published tables of the five papers, and whether what a sweep names of them is there.

The numbers are facts taken from the papers' tables, each with notes on what is odd in print; they are data of the
package (tokexp/published/PAPER.yaml) and are never written by it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from tokexp.errors import InputError
from tokexp.spec.conditions import same
from tokexp.spec.findings import Finding
from tokexp.spec.published import Published, PublishedCell
from tokexp.spec.wording import did_you_mean, listed

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper: `name` is `seitpp/table-7`, `paper` the paper's title, `metric` what was measured.

    A cell is a number, text, true or false, or None where nothing is printed.
    """

    name: str
    paper: str
    title: str
    metric: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: str

    @property
    def percent(self) -> bool:
        """Whether its results are in percent, where tokexp's own are shares from 0 to 1."""
        return "%" in self.metric

    def value_column(self) -> str | None:
        """Return the column of results where none is named: `top1`, else the only column of numbers."""
        numbers = [column for column in self.columns if any(is_number(row.get(column)) for row in self.rows)]
        if "top1" in numbers:
            return "top1"
        return numbers[0] if len(numbers) == 1 else None


def is_number(value: Any) -> bool:
    """Say whether a cell holds a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def papers() -> tuple[str, ...]:
    """Return the words by which papers are named: dtm, mapet, moto, seit, seitpp."""
    found = (file.name for file in files("tokexp").joinpath("published").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


@cache
def tables_of(paper: str) -> Mapping[str, PublishedTable]:
    """Return the tables of a paper by their id (`table-7`), in the order of print."""
    text = files("tokexp").joinpath("published", f"{paper}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    return {
        table["id"]: PublishedTable(
            f"{paper}/{table['id']}", document["paper"]["title"], table["title"], table["metric"] or "",
            tuple(table["columns"]), tuple(table["rows"]), table.get("notes") or "",
        )
        for table in document["tables"]
    }  # fmt: skip


def published_table(name: str) -> PublishedTable:
    """Return the table of a name such as `seitpp/table-7`. Raises InputError with the nearest name if there is none."""
    paper, _, table = name.partition("/")
    known = papers()
    if paper not in known:
        raise InputError(f"no published paper {paper!r}{did_you_mean(paper, known) or _there_are(known)}")
    tables = tables_of(paper)
    if table not in tables:
        close = did_you_mean(name, [found.name for found in tables.values()])
        raise InputError(f"{paper} has no table {table!r}{close or _there_are(tables)}")
    return tables[table]


def _there_are(names: Iterable[str]) -> str:
    return f"; there are {listed(names, 'and')}"


def cell_of(published: Published, case: str) -> tuple[Row | None, str | None]:
    """Return the row and the column in which a case's value stands, each None if there is none.

    A case that is not described is looked for by its name in the columns of text; one row alone must have it.
    """
    table = published_table(published.table)
    cell = published.cases.get(case)
    column = (None if cell is None else cell.column) or published.column or table.value_column()
    if cell is not None:
        return next(iter(_rows_where(table, cell)), None), column
    named = [row for row in table.rows if case in (value for value in row.values() if isinstance(value, str))]
    return (named[0] if len(named) == 1 else None), column


def _rows_where(table: PublishedTable, cell: PublishedCell) -> list[Row]:
    return [
        row
        for row in table.rows
        if all(column in row and same(row[column], value) for column, value in cell.where.items())
    ]


def check_published(published: Published) -> Iterator[Finding]:
    """Yield what is wrong with the published numbers of a sweep: a table, column or row that is not there.

    Paths begin with `published`. Whether the named cases are the sweep's is not looked at here.
    """
    at = ("published", "table")
    try:
        table = published_table(published.table)
    except InputError as error:
        yield Finding(at, str(error), (at,))
        return
    if published.column is not None:
        yield from _unknown_column(table, published.column, ("published", "column"))
    elif table.value_column() is None and any(cell.column is None for cell in published.cases.values()):
        message = f"{table.name} has several columns of numbers; name one: {listed(table.columns)}"
        yield Finding(at, message, (at,))
    for case, cell in published.cases.items():
        yield from _check_cell(table, cell, ("published", "cases", case))


def _unknown_column(table: PublishedTable, column: str, path: tuple[str, ...]) -> Iterator[Finding]:
    if column not in table.columns:
        close = did_you_mean(column, table.columns) or _there_are(table.columns)
        yield Finding(path, f"{table.name} has no column {column!r}{close}", (path, ("published", "table")))


def _check_cell(table: PublishedTable, cell: PublishedCell, here: tuple[str, ...]) -> Iterator[Finding]:
    because = (here, ("published", "table"))
    if cell.column is not None:
        yield from _unknown_column(table, cell.column, (*here, "column"))
    unknown = [column for column in cell.where if column not in table.columns]
    for column in unknown:
        yield from _unknown_column(table, column, (*here, "where", column))
    if not unknown and not (found := _rows_where(table, cell)):
        yield Finding((*here, "where"), f"no row of {table.name} has these values", because)
    elif not unknown and len(found) > 1:
        yield Finding((*here, "where"), f"{len(found)} rows of {table.name} have these values; name one row", because)
