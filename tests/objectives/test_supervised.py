import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm

from tests.objectives.building import CLASSES, context, token_batch, vit_spec
from tokexp.data.base import Batch
from tokexp.engine.optimization import parameter_groups
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.supervised import Classifier, build
from tokexp.spec.objectives import Supervised
from tokexp.spec.train import TrainSpec

SPEC = Supervised(kind="supervised", label_smoothing=0.2, head_std=0.5)
NO_DRAWS = torch.Generator()


def classifier(how: str = "codebook", spec: Supervised = SPEC) -> Classifier:
    torch.manual_seed(0)
    return build(spec, context(vit_spec(), how))


def test_mtms_fine_tuned_model_has_its_published_size() -> None:
    with torch.device("meta"):
        parts = context(vit_spec(size="base"), "learned", torch.empty(391, 32), (28, 28))
        model = build(SPEC, ObjectiveContext(parts.backbone, parts.token_input, 1000))
    assert sum(parameter.numel() for parameter in model.parameters()) == 86_088_712


def test_logits_are_the_head_on_the_normed_mean_of_the_patches() -> None:
    model = classifier("learned").eval()
    indices, batch = token_batch(model)
    assert batch.values is not None
    embedded = model.token_input(batch.values, indices)
    encoded = model.backbone.encode(model.backbone.embed(embedded))
    features = layer_norm(encoded[:, 1:].mean(1), (24,), *model.backbone.norm.parameters(), 1e-6)  # type: ignore[arg-type]
    expected = features @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model.logits(batch.values), expected)


def test_the_loss_is_the_smoothed_cross_entropy_with_soft_targets() -> None:
    model = classifier()
    _, batch = token_batch(model)
    targets = torch.rand(4, CLASSES).softmax(1)
    batch = Batch(batch.labels, CLASSES, values=batch.values, targets=targets)
    assert batch.values is not None
    logs = model.logits(batch.values).log_softmax(1)
    expected = -((0.8 * targets + 0.2 / CLASSES) * logs).sum(1).mean()
    torch.testing.assert_close(model(batch, NO_DRAWS).loss, expected)


def test_accuracy_is_measured_against_the_largest_target() -> None:
    model = classifier()
    _, batch = token_batch(model)
    assert batch.values is not None
    answers = model.logits(batch.values).argmax(1)
    targets = 0.6 * torch.eye(CLASSES)[answers] + 0.4 / CLASSES
    mixed = Batch((answers + 1) % CLASSES, CLASSES, values=batch.values, targets=targets)
    assert model(mixed, NO_DRAWS).metrics["accuracy"].item() == 1.0
    wrong = Batch((answers + 1) % CLASSES, CLASSES, values=batch.values)
    assert model(wrong, NO_DRAWS).metrics["accuracy"].item() == 0.0


def test_the_head_starts_with_the_deviation_of_the_spec() -> None:
    torch.manual_seed(0)
    parts = context(vit_spec(width=192))
    model = build(
        Supervised(kind="supervised", head_std=2e-5), ObjectiveContext(parts.backbone, parts.token_input, 500)
    )
    assert model.head.weight.std().item() == pytest.approx(2e-5, rel=0.02)
    assert model.head.weight.abs().max().item() < 2e-4
    zeros = build(Supervised(kind="supervised", head_std=0.0), parts)
    assert torch.equal(zeros.head.weight, torch.zeros(CLASSES, 192))


def test_layers_go_from_stem_and_token_table_through_the_blocks_to_norm_and_head() -> None:
    torch.manual_seed(0)
    model = build(SPEC, context(vit_spec(depth=12), "learned"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{names[id(parameter)] for parameter in group} for group in model.layer_groups()]
    assert len(groups) == 14
    assert {"backbone.stem.weight", "backbone.positions", "backbone.class_token", "token_input.table.weight"} < groups[
        0
    ]
    for number in range(12):
        assert all(name.startswith(f"backbone.blocks.{number}.") for name in groups[number + 1])
    assert groups[13] == {"backbone.norm.weight", "backbone.norm.bias", "head.weight", "head.bias"}
    assert sorted(name for group in groups for name in group) == sorted(names.values())


def test_the_release_counts_the_token_table_with_the_head() -> None:
    model = build(SPEC, context(vit_spec(depth=12), "learned"))
    model.table_layer = "last"
    first, *_, last = model.layer_groups()
    table = set(model.token_input.parameters())
    assert table
    assert table <= set(last)
    assert not table & set(first)
    assert sum(map(len, model.layer_groups())) == len(list(model.parameters()))


def test_layer_decay_scales_learning_rates_by_the_distance_to_the_head() -> None:
    model = build(SPEC, context(vit_spec(depth=12), "learned"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales: dict[str, float] = {}
    for group in parameter_groups(model, TrainSpec(layer_decay=0.65)):
        scales |= {names[id(parameter)]: group["lr_scale"] for parameter in group["params"]}  # type: ignore[misc,attr-defined]
    first = {"backbone.stem.weight", "backbone.class_token", "backbone.positions", "token_input.table.weight"}
    assert [scales[name] for name in first] == pytest.approx([0.65**13] * 4)
    for number in range(12):
        assert scales[f"backbone.blocks.{number}.mlp.fc1.weight"] == pytest.approx(0.65 ** (12 - number))
    assert scales["backbone.norm.weight"] == scales["head.bias"] == 1.0


def test_class_token_and_positions_are_not_decayed() -> None:
    model = classifier()
    assert model.undecayed() <= {name for name, _ in model.named_parameters()}
    assert len(model.undecayed()) == 2


def test_pixels_are_read_without_a_codebook() -> None:
    parts = context(vit_spec({"kind": "patchify", "patch_size": 4}, input="pixels"))
    model = build(SPEC, ObjectiveContext(parts.backbone, nn.Identity(), CLASSES))
    batch = Batch(torch.tensor([0, 1]), CLASSES, values=torch.rand(2, 6, 8, 12))
    assert torch.isfinite(model(batch, NO_DRAWS).loss)


def test_weights_bear_the_names_that_a_pre_training_saves() -> None:
    prefixes = {name.split(".")[0] for name in classifier("learned").state_dict()}
    assert prefixes == {"backbone", "token_input", "head"}


def test_a_batch_of_indices_is_refused() -> None:
    batch = Batch(torch.tensor([0]), CLASSES, indices=torch.zeros(1, 8, 12, dtype=torch.int64))
    with pytest.raises(ValueError, match="look them up"):
        classifier()(batch, NO_DRAWS)
