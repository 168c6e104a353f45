"""Bootstrap your own latent (Grill et al. 2020): predict a moving average's features of another view of an image.

    loss = sum over both directions of 2 - 2 cos(q(g(f(x))), g'(f'(x'))),   f', g' the averages of f, g

f is the backbone with pooled features, g and q are MLPs with batch norm. Kim et al. 2024 (DTM, table 3) add morphing:
the patches of f predict the morphed patches of f', each by an MLP, at equal places, so views may not move patches.
Statistics of batch norms are always those of the micro-batch; nothing of them is kept.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tokexp.data.base import Batch
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.morphing.term import Morphing
from tokexp.objectives.targets.momentum import MomentumEncoder, move_towards
from tokexp.spec.bootstrap import Byol


def mlp(width: int, hidden: int, features: int) -> nn.Sequential:
    """Return linear, batch norm, ReLU, linear: the projector's and the predictor's form."""
    norm = nn.BatchNorm1d(hidden, track_running_stats=False)
    return nn.Sequential(nn.Linear(width, hidden), norm, nn.ReLU(), nn.Linear(hidden, features))


class BootstrapYourOwnLatent(Objective):
    """Backbone, token input, projector, predictor, and the averages of the first three.

    Metrics: similarity, the mean cosine of predictions and features; groups and morphing with a morphing term.
    """

    draws = True

    def __init__(self, spec: Byol, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for a grouper that does not fit the patches."""
        super().__init__()
        self.spec, self.backbone, self.token_input = spec, context.backbone, context.token_input
        width = context.backbone.width
        self.projector = mlp(width, spec.hidden, spec.features)
        self.predictor = mlp(spec.features, spec.hidden, spec.features)
        self.average = MomentumEncoder(context.backbone, context.token_input, spec.decay)
        self.average_projector = deepcopy(self.projector).requires_grad_(False)
        self.morphing = None if spec.dtm is None else Morphing(spec.dtm, context.backbone.patch_grid)
        self.patch_predictor = None if spec.dtm is None else _patch_mlp(width)

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch with two views (B, C, H, W) of its images."""
        if batch.values is None or batch.other_view is None:
            raise ValueError("byol needs two views of looked up values; objective.views makes the other one")
        views = (batch.values, batch.other_view)
        seen = [self.encoded(view) for view in views]
        wanted = [self.wanted(view) for view in views]
        similar = torch.stack([self.similarity(seen[0], wanted[1]), self.similarity(seen[1], wanted[0])])
        loss, metrics = (2 - 2 * similar).sum(), {"similarity": similar.detach().mean()}
        if self.morphing is not None:
            sides = [self.morphed(seen[i], wanted[1 - i], generator) for i in range(2)]
            morphing = torch.stack([side.loss for side in sides]).mean()
            metrics |= {**sides[0].metrics, "morphing": morphing.detach()}
            assert self.spec.dtm is not None
            loss = loss + self.spec.dtm.weight * morphing
        return StepOutput(loss, metrics)

    def encoded(self, view: Tensor) -> Tensor:
        """Return (B, 1 + N, width) of a view, before the final norm."""
        return self.backbone.encode(self.backbone.embed(self.token_input(view)))

    @torch.no_grad()
    def wanted(self, view: Tensor) -> Tensor:
        """Return the average's (B, 1 + N, width) of a view, before the final norm."""
        average = self.average
        return average.backbone.encode(average.backbone.embed(average.token_input(view)))

    def similarity(self, seen: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean cosine (scalar, float32) of the prediction from one view and the average's other view."""
        predicted = self.predictor(self.projector(self.backbone.pool(seen)))
        with torch.no_grad():
            target = self.average_projector(self.average.backbone.pool(wanted))
        with torch.autocast(predicted.device.type, enabled=False):
            return cosine_similarity(predicted.float(), target.float(), dim=-1).mean()

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def morphed(self, seen: Tensor, wanted: Tensor, generator: torch.Generator) -> StepOutput:
        """Return the morphing loss of one view's patches against the average's patches of the other."""
        assert self.morphing is not None
        assert self.patch_predictor is not None
        patches = self.patch_predictor(self.backbone.norm(seen)[:, 1:])
        levels = self.morphing.morph(self.average.finish(wanted[:, 1:]), generator)
        output: StepOutput = self.morphing.compare(patches, levels)
        return output

    def after_step(self) -> None:
        """Let the averages follow."""
        self.average.follow(self.backbone, self.token_input)
        move_towards(self.average_projector, self.projector, self.spec.decay)

    def undecayed(self) -> set[str]:
        """Return the backbone's: of a ViT the class token and the positions."""
        return {f"backbone.{name}" for name in self.backbone.undecayed()}


def _patch_mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


def build(spec: Byol, context: ObjectiveContext) -> BootstrapYourOwnLatent:
    """Return the objective for a spec; build its backbone with learned positions."""
    return BootstrapYourOwnLatent(spec, context)
