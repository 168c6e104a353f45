"""dtm: what is hidden, what is compared, who learns; and morphing as a term of other objectives."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch._dynamo.utils import counters

from tests.models.test_vit import reference_blocks
from tests.objectives.building import CLASSES, pixel_batch, predictor, stir, vit_spec
from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.groupers.bipartite import build as build_bipartite
from tokexp.objectives.morphing.schedules import draw_levels
from tokexp.objectives.targets.base import Target
from tokexp.objectives.with_terms import WithTerms
from tokexp.registry import implementation
from tokexp.spec.distill import Dtm
from tokexp.spec.morphing import Bipartite
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.terms import TermSpec

N, MASKED = 24, 10
SMALL: dict[str, Any] = {"blocks": {"smallest": 2}, "schedule": {"iterations": [1, 4]}}


class Colours(Target):
    """A frozen target of its own: fixed random features of every patch of 2 x 2 pixels."""

    width, patch_grid, prefix = 5, (4, 6), 0

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(12, 5, generator=torch.Generator().manual_seed(9))
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def start(self, values: Tensor) -> Tensor:
        patches = torch.nn.functional.unfold(values, 2, stride=2)
        return patches.transpose(1, 2) @ self.weight

    def blocks(self) -> list[torch.nn.Module]:
        return []

    def finish(self, tokens: Tensor) -> Tensor:
        return tokens


def context(target: Target | None = None, **vit: Any) -> ObjectiveContext:
    torch.manual_seed(3)
    return ObjectiveContext(build_vit(vit_spec(**vit), 3, (8, 12)), PixelInput("half"), CLASSES, None, 13, target)


def dtm(target: Any = "colours", kind: str = "dtm", **fields: Any) -> Any:
    own = {"kind": "momentum", "decay": 0.5} if target == "momentum" else {"kind": "teacher", "from": {"stage": "x"}}
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, "target": own, **SMALL, **fields})
    built = implementation("objectives", kind)(spec, context(Colours() if target == "colours" else None))
    stir(built)
    return built.eval()


def values(samples: int = 4) -> Tensor:
    found = pixel_batch(samples).values
    assert found is not None
    return found


def test_the_loss_is_the_papers_from_its_parts() -> None:
    objective, images = dtm(schedule={"levels": 3, "iterations": [1, 3]}), values()
    output = objective(
        Batch(torch.zeros(4, dtype=torch.int64), CLASSES, values=images), torch.Generator().manual_seed(7)
    )
    draws = torch.Generator().manual_seed(7)
    hidden = objective.draw(4, draws)
    levels = draw_levels(objective.spec.schedule, N, False, draws)
    vit, losses = objective.backbone, []
    target = Colours()(images)
    patches = torch.where(hidden[:, :, None], objective.mask_vector, vit.embed(objective.token_input(images)))
    tokens = torch.cat([vit.class_token.expand(4, -1, -1), patches], dim=1) + vit.positions
    student = (
        vit.norm(reference_blocks(vit, tokens, 2))[:, 1:] @ objective.term.head.weight.T + objective.term.head.bias
    )
    for level in levels:
        labels = build_bipartite(Bipartite(kind="bipartite")).group(target, level, draws).labels
        assert labels is not None
        for u, v, own in zip(student, target, labels, strict=True):
            for group in own.unique():
                mine = own == group
                cosine = torch.cosine_similarity(u[mine].mean(0), v[mine].mean(0), dim=0)
                losses.append(mine.sum() * (1 - cosine))
    torch.testing.assert_close(output.loss, torch.stack(losses).sum() / (N * 4 * 3), atol=1e-5, rtol=1e-5)
    assert output.metrics["groups"].item() == pytest.approx(sum(level.groups for level in levels) / 3)


def test_counts_of_masks_are_those_of_the_paper_and_of_the_release() -> None:
    target = {"target": {"kind": "momentum"}}
    assert Dtm.model_validate({"kind": "dtm", **target}).predicted(196) == 78
    released = Dtm.model_validate({"kind": "dtm", "preset": "released", **target})
    assert released.predicted(196) == 75
    assert released.protects_first
    assert released.schedule.last_step == "released"
    assert released.drop_path == 0.1


def test_exactly_the_counted_patches_are_hidden_and_the_target_sees_them() -> None:
    objective, images = dtm(), values()
    hidden = objective.draw(4, torch.Generator().manual_seed(1))
    assert (hidden.sum(1) == MASKED).all()
    of_pixels = hidden.view(4, 1, 4, 6).repeat_interleave(2, 2).repeat_interleave(2, 3)
    changed = torch.where(of_pixels, 1 - images, images)
    assert torch.equal(objective.features(images, hidden), objective.features(changed, hidden))
    found = [objective.term.morphed(each, torch.Generator())[0].rows for each in (images, changed)]
    assert not torch.equal(found[0], found[1])


def test_every_patch_counts_and_a_frozen_target_is_no_part_of_the_state() -> None:
    objective, images = dtm(), values()
    features = objective.features(images, objective.draw(4, torch.Generator())).detach().requires_grad_()
    objective.term.loss(features, objective.term.morphed(images, torch.Generator())).loss.backward()
    assert (features.grad.abs().sum(-1) > 0).all()
    assert not any("target" in name for name in objective.state_dict())
    assert not any(each is parameter for each in objective.parameters() for parameter in Colours().parameters())


def test_a_moving_average_follows_the_student_after_an_update() -> None:
    objective = dtm("momentum")
    before = {name: value.clone() for name, value in objective.term.target.state_dict().items()}
    assert set(before) <= {name.removeprefix("term.target.") for name in objective.state_dict()}
    objective.after_step()
    after, student = objective.term.target.state_dict(), objective.state_dict()
    for name, value in before.items():
        torch.testing.assert_close(after[name], (value + student[name]) / 2)
    objective.train()
    assert not any(module.training for module in objective.term.target.modules())


def test_equal_generators_give_equal_losses_and_others_do_not() -> None:
    objective, batch = dtm("momentum"), pixel_batch()
    losses = [objective(batch, torch.Generator().manual_seed(seed)).loss.item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_merging_inside_the_target_is_traced_to_its_patches() -> None:
    objective, images = dtm("momentum", grouper={"kind": "layerwise", "per_block": 3}), values()
    target = objective.term.target
    (morphed,) = objective.term.morphed(images, torch.Generator())
    labels, groups = morphed.grouping.labels, morphed.grouping.groups
    assert (groups, morphed.rows.shape) == (N - 6, (4, N - 6, 24))
    for image, own, rows in zip(images, labels, morphed.rows, strict=True):
        tokens, members = target.start(image[None]), [[place] for place in range(1 + N)]
        for block in target.blocks():
            tokens = block(tokens)[0]
            unit = torch.nn.functional.normalize(tokens, dim=-1)
            scores = unit[::2] @ unit[1::2].T
            scores[0] = -1
            chosen = scores.max(1).values.topk(3).indices.tolist()
            merged = {}
            for odd in range(1, len(tokens), 2):
                into = [odd, *(2 * a for a in chosen if scores[a].argmax() == odd // 2)]
                weights = torch.tensor([float(len(members[place])) for place in into])
                mean = (tokens[into] * weights[:, None]).sum(0) / weights.sum()
                merged[odd] = (mean, [one for place in into for one in members[place]])
            kept = [(tokens[place], members[place]) for place in range(0, len(tokens), 2) if place // 2 not in chosen]
            tokens, members = (list(each) for each in zip(*kept, *merged.values(), strict=True))
            tokens = torch.stack(tokens)[None]
        assert [sorted(place - 1 for place in each) for each in members[1:]] == [
            (own == group).nonzero()[:, 0].tolist() for group in range(groups)
        ]
        torch.testing.assert_close(rows, target.finish(tokens[0, 1:]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["kmeans", "downsample", "whole", "ungrouped"])
def test_every_grouper_trains(kind: str) -> None:
    objective = dtm(grouper={"kind": kind})
    output = objective(pixel_batch(), torch.Generator().manual_seed(0))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    expected = {"downsample": 6, "whole": 1, "ungrouped": N}
    assert output.metrics["groups"].item() == expected.get(kind, output.metrics["groups"].item())


def test_a_target_with_other_patches_is_refused_and_so_is_none() -> None:
    other = Colours()
    other.patch_grid = (2, 3)
    spec = Dtm.model_validate({"kind": "dtm", "target": {"kind": "teacher", "from": {"stage": "x"}}})
    with pytest.raises(InputError, match="2 x 3 patches and the model 4 x 6"):
        implementation("objectives", "dtm")(spec, context(other))
    with pytest.raises(InputError, match="learns from a target"):
        implementation("objectives", "dtm")(spec, context())


def with_term(kind: str, **fields: Any) -> tuple[Any, WithTerms]:
    host = predictor(kind, pixels=True, **fields)
    target = {"kind": "momentum", "decay": 0.5}
    term: Any = TypeAdapter(TermSpec).validate_python({"kind": "dtm", "weight": 0.5, "target": target, **_SCHEDULE})
    torch.manual_seed(4)
    return host, WithTerms(host, [term])


_SCHEDULE = {"schedule": {"iterations": [1, 4]}}


@pytest.mark.parametrize(("kind", "fields"), [("mim", {}), ("beit", {"blocks": {"smallest": 2}})])
def test_a_term_adds_its_weighted_loss_on_the_hosts_own_features(kind: str, fields: dict[str, Any]) -> None:
    host, both = with_term(kind, **fields)
    stir(both)
    batch, found = pixel_batch(), list[Tensor]()
    host.backbone.blocks[-1].register_forward_hook(lambda module, given, out: found.append(out))
    draws = torch.Generator().manual_seed(5)
    output = both(batch, draws)
    again = torch.Generator().manual_seed(5)
    own = host(batch, again)
    matched = both.terms["dtm"].matched
    features = host.backbone.norm(found[0])[:, 1:]
    morphing = matched.loss(features, matched.morphed(batch.values, again)).loss
    torch.testing.assert_close(output.loss, own.loss + 0.5 * morphing)
    torch.testing.assert_close(output.metrics["dtm"], morphing.detach())
    output.loss.backward()
    assert matched.head.weight.grad.abs().sum() > 0
    assert host.head.weight.grad.abs().sum() > 0


def test_a_terms_moving_average_is_saved_and_follows() -> None:
    host, both = with_term("mim")
    stir(host)
    name = "terms.dtm.matched.target.backbone.positions"
    before = both.state_dict()[name].clone()
    both.after_step()
    torch.testing.assert_close(both.state_dict()[name], (before + host.backbone.positions) / 2)


def test_a_term_refuses_an_encoder_that_does_not_see_all_patches() -> None:
    _, both = with_term("pim")
    with pytest.raises(InputError, match="does not see them all"):
        both(pixel_batch(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", ["colours", "momentum"])
def test_nothing_is_compiled_again_as_granularities_vary(target: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    objective, graphs = dtm(target), list[int]()
    compiled = torch.compile(objective, backend="eager")
    for step in range(8):
        batch = pixel_batch(seed=step)
        output = compiled(batch, torch.Generator().manual_seed(step))
        output.loss.backward()
        torch.testing.assert_close(output.loss, objective(batch, torch.Generator().manual_seed(step)).loss)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[2] == graphs[-1] > 0
    assert not counters["graph_break"]
