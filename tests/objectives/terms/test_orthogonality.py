"""The orthogonality of MoTo's filters, against its definition."""

import pytest
import torch

from tests.objectives.terms.classifiers import MOTO, beside, classifier, gradients
from tokexp.errors import InputError
from tokexp.objectives.terms.orthogonality import build
from tokexp.spec.terms import Orthogonality


def test_it_is_the_squared_distance_of_the_filters_products_from_the_identity() -> None:
    backbone = classifier({**MOTO, "blocks": [1, 2]}).backbone
    expected = 0.0
    for name, weight in backbone.named_parameters():
        if name.endswith("semantic.weight"):
            rows = weight.flatten(1)
            rows = rows.detach()
            for i in range(3):
                for j in range(3):
                    expected += float((torch.dot(rows[i], rows[j]) - float(i == j)) ** 2)
    term = build(Orthogonality(kind="orthogonality"), backbone)
    term.begin()
    found = term.loss(None, torch.Generator())  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert list(term.parameters()) == []


def test_it_trains_the_filters_alone() -> None:
    apart, none = (gradients(beside({"kind": "orthogonality", "weight": w}, stem=MOTO)) for w in (1.0, 0.0))
    changed = {name for name in apart if not torch.equal(apart[name], none[name])}
    assert changed == {"objective.backbone.stem.0.modulation.semantic.weight"}


def test_a_model_without_moto_is_refused() -> None:
    with pytest.raises(InputError, match="moto"):
        build(Orthogonality(kind="orthogonality"), classifier().backbone)
