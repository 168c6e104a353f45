"""The `terms` of an objective or a task: losses that are added to its own, each with a weight."""

from typing import Annotated, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds
from tokexp.spec.morphing_terms import DtmTerm
from tokexp.spec.token_prop import TokenProp


class Orthogonality(Spec):
    """Hold the filters by which MoTo tells regions apart orthogonal to each other (AttenNorm, Wang et al. 2020)."""

    kind: Literal["orthogonality"]
    weight: float = Field(1e-3, ge=0, le=1e6, description="Factor of this loss.")


TermSpec = Annotated[TokenProp | Orthogonality | DtmTerm, Kinds("terms")]
Terms = tuple[TermSpec, ...]
