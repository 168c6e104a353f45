"""A good spec as text, and how tests read variants of it."""

from collections.abc import Sequence
from pathlib import Path

from tokexp.errors import Problem, SpecError
from tokexp.spec.reading import ReadSpec, read_experiment

GOOD = """\
schema: 1
name: good
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 64}
storage: {codec: {kind: packed}}
model: {kind: vit, width: 96, depth: 4, heads: 4, stem: {kind: conv2x2}}
augment:
  pretrain:
    - halves:
        - [{kind: token_rrc, scale: [0.5, 1.0]}]
        - [{kind: token_adapt, geometry: {translate: 0.15, rotate: 10, rrc: [0.7, 1.0]}}]
  task:
    - one_of: [{kind: emb_noise}, {kind: color_adapt}]
      weights: [0.75, 0.25]
      per: batch
    - sometimes: 0.5
      do: [{kind: token_cutmix}]
objective:
  kind: mtm
  preset: paper
  mask: {low: 0.4}
  train: {epochs: 60, batch_size: 256, lr: 1.5e-3}
tasks:
  finetune: {kind: classify, train: {epochs: 40, lr: 1.0e-3, warmup: 5 epochs, layer_decay: 0.75}}
  probe: {kind: probe, lrs: [0.01, 0.1, 1.0]}
evaluate:
  clean: {kind: clean}
  noise: {kind: corruption, name: gaussian_noise, severity: 3}
seeds: [0, 1]
resources:
  default: {gpus: 0, cpus: 2, memory: 4 GB, time: 30 min}
track: {enabled: false}
"""


def write(folder: Path, text: str = GOOD, name: str = "spec.yaml") -> Path:
    """Write a spec and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str = GOOD, overrides: Sequence[str] = ()) -> ReadSpec:
    """Write a spec and read it."""
    return read_experiment(write(folder, text), overrides)


def problems_of(folder: Path, text: str = GOOD, overrides: Sequence[str] = ()) -> list[Problem]:
    """Write a spec and return its problems; none if it is good."""
    try:
        read(folder, text, overrides)
    except SpecError as error:
        return error.problems
    return []
