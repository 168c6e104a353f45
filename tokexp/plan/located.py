"""The plan of an experiment that was read from a file: a missing file of weights is reported where it is named."""

from tokexp.errors import SpecError
from tokexp.plan.checkpoints import AbsentFileError
from tokexp.plan.graph import Plan, build_plan
from tokexp.spec.findings import Finding
from tokexp.spec.reading import ReadSpec
from tokexp.spec.validating import placed


def plan_of_file(read: ReadSpec) -> Plan:
    """Return the plan. Raises SpecError with file, line and column for weights that are not there, else DataError."""
    try:
        return build_plan(read.experiment)
    except AbsentFileError as error:
        raise SpecError([placed(read.tree, Finding(error.field, error.reason, ()))]) from error
