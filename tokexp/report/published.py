"""Published numbers beside a sweep's own: which value belongs to a case, and in which unit.

The papers print percent; tokexp's accuracies are shares from 0 to 1, which `in_its_unit` shows in percent beside them.
"""

from tokexp.spec.published import Published
from tokexp.spec.published_tables import PublishedTable, cell_of, is_number, published_table

__all__ = ["PublishedTable", "in_its_unit", "published_number", "published_table", "published_value"]

_SHARES = ("top1", "top5", "accuracy", "miou")
"""Our metrics that are shares from 0 to 1, by what their last word contains."""


def published_value(published: Published, case: str) -> float | None:
    """Return the value of a point by its name, as it is printed; None if the table has none for it.

    Raises InputError for a table that does not exist.
    """
    found = published_number(published, case)
    return None if found is None else found[1]


def published_number(published: Published, case: str) -> tuple[str, float] | None:
    """Return the column and the printed value of a point by its name; None if the table has none for it.

    Raises InputError for a table that does not exist.
    """
    row, column = cell_of(published, case)
    value = None if row is None or column is None else row.get(column)
    return (str(column), float(value)) if value is not None and is_number(value) else None


def in_its_unit(value: float, metric: str, table: PublishedTable) -> float:
    """Return our value of a metric such as finetune/top1 in a table's unit: in percent where the table prints that."""
    share = any(word in metric.rpartition("/")[2] for word in _SHARES)
    return 100.0 * value if share and table.percent else value
