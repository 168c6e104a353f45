import pytest

from tokexp.plan.estimate import estimate_plan, forward_operations, parameters, shape_of, work_of
from tokexp.plan.graph import build_plan
from tokexp.spec.experiment import Experiment
from tokexp.spec.models import VitSpec
from tokexp.spec.stages import PretrainStage

COUNTS = {"train": 1000, "test": 200}


def experiment(**changes):
    given = {
        "schema": 1,
        "data": {"kind": "digits"},
        "tokenizer": {"kind": "patch_kmeans", "codebook_size": 64},
        "model": {"kind": "vit", "width": 32, "depth": 2, "heads": 2, "stem": {"kind": "conv2x2"}},
        "objective": {"kind": "supervised", "train": {"steps": 100, "batch_size": 50}},
    }
    return Experiment.model_validate({**given, **changes})


def test_a_forward_pass_costs_what_its_matrix_products_do():
    model = VitSpec(kind="vit", size="base", input="pixels", stem={"kind": "patchify", "patch_size": 16})
    shape = shape_of([], {})
    shape = type(shape)(0, 0, 0, (1, 1), 2, 1, 3 * 224 * 224, 3)
    n, d = 197, 768
    products = 2 * n * d * 3 * d + 2 * n * n * d * 2 + 2 * n * d * d + 2 * 2 * n * d * 4 * d
    assert forward_operations(model, shape) == 12 * products
    assert forward_operations(model, shape) == pytest.approx(35e9, rel=0.02)
    assert parameters(model, shape) == pytest.approx(85e6, rel=0.02)


def test_training_costs_three_forward_passes_of_every_image_seen():
    plan = build_plan(experiment())
    shape = shape_of([node.payload for node in plan.nodes], COUNTS)
    [payload] = [node.payload for node in plan.nodes if isinstance(node.payload, PretrainStage)]
    work = work_of(payload, shape)
    assert work.updates == 100
    assert work.operations == 3 * 100 * 50 * forward_operations(payload.model, shape)


def test_stored_tokens_take_their_bits_and_shrink_with_the_fraction():
    sizes = {}
    for fraction in (1.0, 0.5):
        plan = build_plan(experiment(storage={"fraction": fraction}))
        [key] = [node.key for node in plan.nodes if node.kind == "tokens"]
        sizes[fraction] = estimate_plan(plan, COUNTS)[key].bytes
    assert sizes[1.0] == 1200 * 16 * 6 / 8 + 2 * 1200 + 4 * 64 * 4
    assert sizes[1.0] - sizes[0.5] == 500 * (16 * 6 / 8 + 2)


def test_what_was_measured_on_this_machine_replaces_the_guess():
    plan = build_plan(experiment())
    [node] = [node for node in plan.nodes if node.kind == "pretrain"]
    operations = work_of(node.payload, shape_of([each.payload for each in plan.nodes], COUNTS)).operations
    measured = estimate_plan(plan, COUNTS, lambda kind: [(operations, 500.0)] if kind == "pretrain" else [])
    assert 500 <= measured[node.key].seconds <= 510
    assert measured[node.key].seconds > 10 * estimate_plan(plan, COUNTS)[node.key].seconds


def test_every_stage_has_an_estimate_even_where_the_data_is_not_there():
    plan = build_plan(experiment(tasks={"probe": {"kind": "probe"}}))
    found = estimate_plan(plan, {})
    assert found.keys() == plan.keys()
    assert all(estimate.seconds > 0 for estimate in found.values())
