"""A moving average of the student as its target (He et al. 2020, MoCo; Grill et al. 2020, BYOL; data2vec, 2022).

After every update t := decay t + (1 - decay) s. It is part of the objective's state, so that a resumed run goes on with
the same average.
"""

from copy import deepcopy

import torch
from torch import nn

from tokexp.models.base import Backbone
from tokexp.objectives.targets.teacher import EncoderTarget
from tokexp.spec.teachers import MomentumTarget


@torch.no_grad()
def move_towards(average: nn.Module, student: nn.Module, decay: float) -> None:
    """Move every weight of `average` towards that of `student`; other state (running statistics) is copied."""
    weights = dict(student.named_parameters())
    for name, weight in average.named_parameters():
        weight.lerp_(weights[name].detach(), 1 - decay)
    state = dict(student.named_buffers())
    for name, buffer in average.named_buffers():
        buffer.copy_(state[name])


class MomentumEncoder(EncoderTarget):
    """Starts as the student's copy."""

    def __init__(self, backbone: Backbone, token_input: nn.Module, decay: float) -> None:
        """Take the student's parts, which are copied, and the share of the average that stays."""
        super().__init__(deepcopy(backbone), deepcopy(token_input))
        self.decay = decay

    def follow(self, *students: nn.Module) -> None:
        """Move towards the student's backbone and token input."""
        for average, student in zip((self.backbone, self.token_input), students, strict=True):
            move_towards(average, student, self.decay)


def build(spec: MomentumTarget, backbone: Backbone, token_input: nn.Module) -> MomentumEncoder:
    """Return a copy of the student that follows it."""
    return MomentumEncoder(backbone, token_input, spec.decay)
