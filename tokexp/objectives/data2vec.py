"""data2vec for images (Baevski et al. 2022, sections 3.2 to 3.4): regress an average's features of the whole image.

    y = 1/K sum over the last K blocks l of LN(a_l),    a_l of a moving average of the model on the whole image
    loss = mean over masked patches and channels of (y - f)^2 / (2 beta) up to |y - f| = beta, |y - f| - beta/2 beyond

f is a linear layer on the student's patches after the final norm; the student sees the image with blocks of patches
replaced by one learned vector. LN has no weights. a_l is the output of a block's MLP before it is added to the rest, as
the paper says, or of the whole block, as in the release.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, smooth_l1_loss

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.block_masks import block_order
from tokexp.objectives.targets.momentum import MomentumEncoder, move_towards
from tokexp.spec.self_distillation import Data2vec

INIT_STD = 0.02


def through(block: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return what one of timm's pre-norm blocks makes of rows (B, n, D), in eval mode, and its MLP's output (B, n, D).

    Raises InputError for another block.
    """
    parts = {name: part for name, part in block.named_children() if not name.startswith("drop_path")}
    if parts.keys() != {"norm1", "attn", "ls1", "norm2", "mlp", "ls2"}:
        raise InputError("objective.layer: ffn needs plain transformer blocks; write layer: block")
    rows = rows + parts["ls1"](parts["attn"](parts["norm1"](rows)))
    ffn: Tensor = parts["mlp"](parts["norm2"](rows))
    return rows + parts["ls2"](ffn), ffn


class Data2VecObjective(Objective):
    """Backbone, token input, mask vector, head, and the average of the first two.

    Metrics: target_ratio, the share of patches that counts; spread, the targets' deviation over the masked patches of
    a micro-batch, mean over channels, which goes to 0 where the model collapses.
    """

    draws = True

    def __init__(self, spec: Data2vec, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for a model with fewer blocks than are averaged."""
        super().__init__()
        self.spec, self.backbone, self.token_input = spec, context.backbone, context.token_input
        rows, columns = context.backbone.patch_grid
        self.num_patches, self.masked = rows * columns, spec.predicted(rows * columns)
        self.average = MomentumEncoder(context.backbone, context.token_input, spec.decay)
        self.first = len(list(self.average.blocks())) - spec.top_blocks
        if self.first < 0:
            given = self.first + spec.top_blocks
            raise InputError(f"objective.top_blocks: {spec.top_blocks} given; the model has {given} blocks")
        width = context.backbone.width
        self.mask_vector = nn.Parameter(torch.empty(1, 1, width))
        self.head = nn.Linear(width, width)
        nn.init.normal_(self.mask_vector, std=INIT_STD)
        nn.init.normal_(self.head.weight, std=INIT_STD)
        nn.init.zeros_(self.head.bias)

    # Generators cannot be traced: what draws stays outside of what is compiled.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of embeddings or pixels (B, C, H, W)."""
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        return self.step(batch.values, self.draw(len(batch), generator))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Return which patches are masked, (B, N) bool: `masked` of every sample, or what its blocks came to."""
        blocks = self.spec.blocks
        order, counts = block_order(blocks, self.masked, samples, self.backbone.patch_grid, generator)
        ranks = torch.arange(self.num_patches, device=order.device).expand_as(order)
        most = counts.clamp(max=self.masked)[:, None]
        hidden = ranks < (self.masked if blocks.exact else most)
        return torch.zeros_like(hidden).scatter(1, order, hidden)

    def step(self, values: Tensor, hidden: Tensor) -> StepOutput:
        """Return loss and metrics of values (B, C, H, W) with the patches `hidden` (B, N) masked; 0 if none is."""
        features, wanted = self.features(values, hidden), self.wanted(values)
        weights = hidden.float()
        total = weights.sum().clamp_min(1.0)
        with torch.autocast(values.device.type, enabled=False):
            errors = smooth_l1_loss(features.float(), wanted, reduction="none", beta=self.spec.beta).mean(-1)
            mean = (wanted * weights[:, :, None]).sum((0, 1)) / total
            variance = ((wanted - mean).square() * weights[:, :, None]).sum((0, 1)) / total
        metrics = {"target_ratio": weights.mean(), "spread": variance.sqrt().mean()}
        return StepOutput((errors * weights).sum() / total, metrics)

    def features(self, values: Tensor, hidden: Tensor) -> Tensor:
        """Return the student's predictions (B, N, width) at all patches."""
        patches = self.backbone.embed(self.token_input(values))
        patches = torch.where(hidden[:, :, None], self.mask_vector.to(patches.dtype), patches)
        predicted: Tensor = self.head(self.backbone.norm(self.backbone.encode(patches))[:, 1:])
        return predicted

    @torch.no_grad()
    def wanted(self, values: Tensor) -> Tensor:
        """Return the targets (B, N, width), float32, of the whole image."""
        rows = self.average.start(values)
        outputs: list[Tensor] = []
        for block in self.average.blocks():
            if self.spec.layer == "ffn":
                rows, output = through(block, rows)
            else:
                rows = output = block(rows)
            outputs.append(output)
        with torch.autocast(values.device.type, enabled=False):
            normed = [_normalised(output[:, 1:].float()) for output in outputs[self.first :]]
            average = torch.stack(normed).mean(0)
            return _normalised(average) if self.spec.norm_average else average

    def after_step(self) -> None:
        """Let the average follow."""
        self.average.follow(self.backbone, self.token_input)
        if self.spec.share_embedding:
            move_towards(self.average.backbone.stem, self.backbone.stem, 0.0)
            with torch.no_grad():
                for name in ("class_token", "positions"):
                    self.average.backbone.get_parameter(name).copy_(self.backbone.get_parameter(name))

    def undecayed(self) -> set[str]:
        """Return the class token and the positions."""
        return {"backbone.class_token", "backbone.positions"}


def _normalised(rows: Tensor) -> Tensor:
    return layer_norm(rows, rows.shape[-1:])


def build(spec: Data2vec, context: ObjectiveContext) -> Data2VecObjective:
    """Return the objective for a spec; build its backbone with learned positions."""
    return Data2VecObjective(spec, context)
