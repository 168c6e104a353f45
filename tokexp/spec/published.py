"""Which published numbers a sweep's report prints beside its own."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from tokexp.spec.base import Spec


def _table(name: str) -> str:
    paper, slash, table = name.partition("/")
    if not (paper and slash and table) or "/" in table:
        raise ValueError("a paper and a table are needed, such as seitpp/table-7")
    return name


class PublishedCell(Spec):
    """One cell of a published table: the row whose columns have these values, and the column to read."""

    where: dict[str, Any] = Field({}, description="Column to value; the one row with all of them is meant.")
    column: str | None = Field(None, description="Column of the value; the table's own choice if not given.")


class Published(Spec):
    """A table of published numbers. Text such as `seitpp/table-7` names the table alone.

    A case that `cases` does not name is looked for by its name in the table's columns of text.
    """

    table: Annotated[str, AfterValidator(_table)] = Field(description="Paper and table, such as seitpp/table-7.")
    metric: str | None = Field(None, description="Our metric that the values stand beside; the first if absent.")
    column: str | None = Field(None, description="Column of the values; top1, or the only one of numbers, if absent.")
    cases: dict[str, PublishedCell] = Field({}, description="For each case, where its value stands.")

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        return given if isinstance(given, (Mapping, Published)) else {"table": given}
