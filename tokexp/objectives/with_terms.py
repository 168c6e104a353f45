"""An objective and the terms beside it: the sum that training lowers, for any objective and any term."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.objectives.base import Objective, StepOutput
from tokexp.objectives.targets.base import Target
from tokexp.objectives.terms.base import Term
from tokexp.registry import implementation
from tokexp.spec.terms import TermSpec

_OWN = "objective."


class WithTerms(Objective):
    """loss = own loss + sum of weight * term. Metrics: the objective's, own_loss, and each term without its weight."""

    def __init__(self, objective: Objective, specs: Sequence[TermSpec], target: Target | None = None) -> None:
        """Take an objective with a `backbone`, what is added to it, and the network that terms may learn from.

        Terms draw their first weights now.
        """
        super().__init__()
        self.objective = objective
        self.weights, terms = dict[str, float](), dict[str, Term]()
        for number, spec in enumerate(specs):
            same = sum(other.kind == spec.kind for other in specs[:number])
            name = f"{spec.kind}_{same + 1}" if same else spec.kind
            terms[name], self.weights[name] = implementation("terms", spec.kind)(spec, objective.backbone), spec.weight
            terms[name].join(objective, target)
        self.terms = nn.ModuleDict(terms)
        self._parts_draw = objective.draws or any(term.draws for term in terms.values())

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the sum; where nothing is drawn it is compiled as a whole, else part by part."""
        output: StepOutput = (self._in_parts if self._parts_draw else self._summed)(batch, generator)
        return output

    def _summed(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        for term in self.terms.values():
            assert isinstance(term, Term)
            term.begin()
        own = self.objective(batch, generator)
        loss, metrics = own.loss, {**own.metrics, "own_loss": own.loss.detach()}
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            value = term.loss(batch, generator)
            loss, metrics[name] = loss + self.weights[name] * value, value.detach()
        return StepOutput(loss, metrics)

    _in_parts = torch.compiler.disable(_summed, recursive=False)

    def after_step(self) -> None:
        """Let the objective and the terms do what follows an update."""
        self.objective.after_step()
        for term in self.terms.values():
            assert isinstance(term, Term)
            term.after_step()

    def undecayed(self) -> set[str]:
        """Return the objective's names; of the terms only what has one dimension is without decay."""
        return {_OWN + name for name in self.objective.undecayed()}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the objective's groups with all terms in the first, that of the stem."""
        first, *others = self.objective.layer_groups()
        return [[*first, *self.terms.parameters()], *others]

    @staticmethod
    def own_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the objective's part of a state of this module, under the objective's names."""
        return {name.removeprefix(_OWN): value for name, value in state.items() if name.startswith(_OWN)}
