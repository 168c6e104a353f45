"""Terms beside any objective: the sum, who gets which gradient, and what is left of them."""

from typing import Any, get_args

import pytest
import torch

from tests.objectives.building import context, token_batch, vit_spec
from tests.objectives.terms.classifiers import MOTO, SMALL, batch, beside, classifier, gradients
from tokexp.engine.optimization import parameter_groups
from tokexp.objectives.with_terms import WithTerms
from tokexp.registry import implementation
from tokexp.spec.objectives import Mtm, ObjectiveSpec
from tokexp.spec.tasks import Classify
from tokexp.spec.train import TrainSpec

ORTHOGONAL = {"kind": "orthogonality", "weight": 0.5}


def test_every_objective_and_classification_take_terms() -> None:
    members = [*get_args(get_args(ObjectiveSpec)[0]), Classify]
    assert [member.__name__ for member in members if "terms" not in member.model_fields] == []


def test_terms_do_not_enter_stage_keys_where_there_are_none() -> None:
    spec = Classify.model_validate({"kind": "classify"})
    assert "terms" not in spec.relevant()
    assert Classify.model_validate({"kind": "classify", "terms": [SMALL]}).relevant()["terms"][0]["size"] == 8


def test_the_loss_is_the_objectives_plus_the_weighted_terms() -> None:
    torch.manual_seed(1)
    output = beside({**SMALL, "weight": 0.25}, ORTHOGONAL, stem=MOTO)(batch(), torch.Generator())
    torch.manual_seed(1)
    own = classifier(MOTO)(batch(), torch.Generator())
    parts = output.metrics
    assert set(parts) == {"accuracy", "own_loss", "token_prop", "orthogonality"}
    assert torch.equal(parts["own_loss"], own.loss.detach())
    expected = own.loss + 0.25 * parts["token_prop"] + 0.5 * parts["orthogonality"]
    torch.testing.assert_close(output.loss, expected)
    assert not any(value.requires_grad for value in parts.values())


def test_a_weight_of_zero_leaves_every_gradient_of_the_objective_as_it_was() -> None:
    with_term = gradients(beside({**SMALL, "weight": 0.0}))
    for name, gradient in gradients(classifier()).items():
        assert torch.equal(with_term[f"objective.{name}"], gradient), name
    assert all(not gradient.any() for name, gradient in with_term.items() if name.startswith("terms."))


def test_two_terms_of_a_kind_have_names_of_their_own() -> None:
    objective = beside(SMALL, {**SMALL, "distance": "l1"}, SMALL)
    assert list(objective.terms) == ["token_prop", "token_prop_2", "token_prop_3"]


def test_layer_groups_are_the_objectives_with_the_terms_beside_the_stem() -> None:
    objective = beside(SMALL)
    groups = objective.layer_groups()
    assert len(groups) == len(objective.objective.layer_groups())
    first = {id(parameter) for parameter in groups[0]}
    assert {id(parameter) for parameter in objective.terms.parameters()} < first
    optimised = parameter_groups(objective, TrainSpec.model_validate({"layer_decay": 0.5}))
    assert sum(len(group["params"]) for group in optimised) == len(list(objective.parameters()))  # type: ignore[arg-type]


def test_undecayed_names_are_the_objectives() -> None:
    objective = beside(SMALL)
    assert objective.undecayed() == {"objective.backbone.class_token", "objective.backbone.positions"}
    assert objective.undecayed() <= {name for name, _ in objective.named_parameters()}


def test_the_objectives_part_of_a_state_bears_its_own_names() -> None:
    objective = beside(SMALL)
    part = WithTerms.own_part(objective.state_dict())
    assert part.keys() == classifier().state_dict().keys()
    assert len(objective.state_dict()) > len(part)


def test_what_follows_an_update_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, called = beside(SMALL), list[str]()
    monkeypatch.setattr(objective.objective, "after_step", lambda: called.append("objective"))
    monkeypatch.setattr(objective.terms["token_prop"], "after_step", lambda: called.append("term"))
    objective.after_step()
    assert called == ["objective", "term"]


def test_a_step_with_terms_is_one_graph_and_gives_the_same() -> None:
    plain, compiled = beside(SMALL, ORTHOGONAL, stem=MOTO), beside(SMALL, ORTHOGONAL, stem=MOTO)
    expected = gradients(plain)
    whole = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    torch.manual_seed(1)
    whole(batch(), torch.Generator().manual_seed(1)).loss.backward()
    for name, parameter in compiled.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mtm", "supervised"])
def test_terms_go_with_objectives_on_stored_tokens(kind: str) -> None:
    torch.manual_seed(0)
    positions = "sincos" if kind == "mtm" else "learned"
    held = context(vit_spec(), positions=positions)
    members: dict[str, Any] = {"mtm": Mtm}
    member = members.get(kind) or next(m for m in get_args(get_args(ObjectiveSpec)[0]) if m.__name__ == "Supervised")
    spec = member.model_validate({"kind": kind, "terms": [{**SMALL, "rows": (16,)}]})
    objective = WithTerms(implementation("objectives", kind)(spec, held), spec.terms)
    term = objective.terms["token_prop"]
    _, tokens = token_batch(objective.objective)
    output = objective(tokens, torch.Generator().manual_seed(0))
    assert torch.isfinite(output.metrics["token_prop"])
    assert term.decoder.rows[-1].first.out_channels == held.backbone.in_channels  # type: ignore[union-attr, index]
