"""The plan of an experiment that was read from a file: what is wrong with other files is said where they are named."""

from tokexp.errors import FieldError, SpecError
from tokexp.plan.graph import Plan, build_plan
from tokexp.spec.findings import Finding
from tokexp.spec.reading import ReadSpec
from tokexp.spec.validating import placed


def plan_of_file(read: ReadSpec) -> Plan:
    """Return the plan.

    Raises SpecError with file, line and column of a field that names what is missing or not as needed, else DataError.
    """
    try:
        return build_plan(read.experiment)
    except FieldError as error:
        raise SpecError([placed(read.tree, Finding(error.field, error.reason, ()))]) from error
