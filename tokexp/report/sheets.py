"""A table that is printed, and written as CSV, Markdown and HTML: texts for people beside values in full precision."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tokexp.report.page import folded, table

MARKS: Final = {"best": "bold green", "baseline": "dim", "failed": "red"}
"""What a row can be marked as, and its style on a terminal. Reports style rows by the class `row-<mark>`."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """One table. `rows` and `records` go side by side: the same things as people read them, and in full.

    text: the columns that are set to the left; the others hold numbers. marks: a word of MARKS for each row, or
    nothing. notes: sentences to print below.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[Record, ...]
    text: tuple[int, ...] = (0,)
    marks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def mark(self, row: int) -> str:
        """Return the mark of a row, or nothing."""
        return self.marks[row] if self.marks else ""


def csv_text(records: Iterable[Record]) -> str:
    """Return records as CSV: every column that any of them has; numbers in full, lists and mappings as JSON."""
    found = list(records)
    columns = list(dict.fromkeys(name for record in found for name in record))
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(record.get(name)) for name in columns] for record in found)
    return target.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def markdown(sheet: Sheet) -> str:
    """Return a sheet as a Markdown table under its title, with its notes."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"

    rule = "|" + "|".join("---" if place in sheet.text else "---:" for place in range(len(sheet.head))) + "|"
    lines = [f"## {sheet.title}", "", line(sheet.head), rule, *(line(row) for row in sheet.rows)]
    lines += [line for text in sheet.notes for line in ("", text)]
    return "\n".join(lines) + "\n"


def render(sheet: Sheet, most: int | None = None) -> Table:
    """Return a sheet for the terminal; of more than `most` rows the first, and how many more there are."""
    shown = Table(
        box=None, padding=(0, 2, 0, 0), header_style="dim", title=Text(sheet.title, "bold"), title_justify="left",
        caption=Text("\n".join(sheet.notes), "dim") if sheet.notes else None, caption_justify="left",
    )  # fmt: skip
    for place, name in enumerate(sheet.head):
        shown.add_column(Text(name), justify="left" if place in sheet.text else "right", overflow="fold")
    for place, row in enumerate(sheet.rows[:most]):
        shown.add_row(*(Text(cell) for cell in row), style=MARKS.get(sheet.mark(place)))
    if most is not None and len(sheet.rows) > most:
        shown.add_row(Text(f"and {len(sheet.rows) - most:,} more", "dim"))
    return shown


def html(sheet: Sheet, most: int = 100) -> str:
    """Return a sheet for a page, without its title; what is beyond `most` rows is folded away."""

    def part(first: int, last: int) -> str:
        marks = [sheet.mark(place) for place in range(first, min(last, len(sheet.rows)))]
        return table(sheet.head, sheet.rows[first:last], sheet.text, marks)

    parts = [part(0, most)]
    if len(sheet.rows) > most:
        parts.append(folded(f"{len(sheet.rows) - most:,} more rows", part(most, len(sheet.rows))))
    return "".join([*parts, *(note(text) for text in sheet.notes)])


def note(text: str) -> str:
    """Return a remark for a page."""
    return f'<p class="note">{escape(text)}</p>'
