"""The evaluation spatial_inconsistency against its definition, patch by patch; probes and texts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.evaluation.base import Grouped
from tokexp.evaluation.spatial_inconsistency import PatchPredictions, Probes, build, neighbours
from tokexp.objectives.base import Objective
from tokexp.spec.evaluation import SpatialInconsistency
from tokexp.spec.train import TrainSpec

CLASSES, WIDTH, ROWS, COLUMNS = 4, 6, 2, 3
PATCHES = ROWS * COLUMNS
GROUPS = torch.tensor([[0, 0, 1, 2, 2, 0], [1, 0, 0, 0, 0, 2]])
"""Groups of patches of even and of odd images."""
TOWER = {"kind": "timm", "random": True}


def pictures(count: int = 9) -> tuple[Tensor, Tensor]:
    """Return values (count, WIDTH, ROWS, COLUMNS), whose columns are the tokens, and labels."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % CLASSES
    values = torch.randn(count, WIDTH, ROWS, COLUMNS, generator=generator)
    return values + nn.functional.one_hot(labels, WIDTH)[:, :, None, None], labels


class Columns:
    """Tokens that are the columns of the values, and the same in the groups above."""

    grid, width, settings = (ROWS, COLUMNS), WIDTH, 2

    def __call__(self, values: Tensor) -> list[Grouped]:
        tokens = values.flatten(2).transpose(1, 2)
        labels = GROUPS[(values.sum((1, 2, 3)) * 1000).long() % 2]
        means = torch.stack(
            [
                torch.stack([image[own == group].mean(0) for group in range(3)])
                for image, own in zip(tokens, labels, strict=True)
            ]
        )
        return [Grouped(tokens, torch.arange(PATCHES).expand(len(values), PATCHES)), Grouped(means, labels)]


class OneSetting(Columns):
    """The tokens as they are, alone."""

    settings = 1

    def __call__(self, values: Tensor) -> list[Grouped]:
        return super().__call__(values)[:1]


class Standing:
    """Images in batches of 4, 4 and 1; remembers what is kept."""

    backbone: Any = None
    token_input: Any = None

    def __init__(self, tokens: Any = None, steps: int = 200) -> None:
        self.tokens, self.steps, self.kept = tokens or Columns(), steps, dict[str, Mapping[str, Any]]()
        self.trained: Objective | None = None

    def batches(self, split: str) -> Iterator[Batch]:
        assert split == "test"
        values, labels = pictures()
        for start in (0, 4, 8):
            yield Batch(labels[start : start + 4], CLASSES, values=values[start : start + 4])

    def fit(self, objective: Objective, train: TrainSpec, seed: int) -> dict[str, float]:
        optimizer = torch.optim.Adam(objective.parameters(), 0.01)
        for _ in range(self.steps):
            for batch in self.batches("test"):
                optimizer.zero_grad()
                objective(batch, torch.Generator()).loss.backward()
                optimizer.step()
        self.trained = objective
        return {}

    def patch_tokens(self, spec: SpatialInconsistency) -> Any:
        return self.tokens

    def keep(self, name: str, arrays: Mapping[str, Any]) -> None:
        self.kept[name] = arrays


def spec(**fields: Any) -> SpatialInconsistency:
    return SpatialInconsistency.model_validate({"kind": "spatial_inconsistency", **fields})


def texts(folder: Path, tensors: dict[str, Tensor] | None = None) -> tuple[str, Tensor]:
    found = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(8))
    save_file(tensors or {"texts": found}, folder / "texts.safetensors")
    return str(folder / "texts.safetensors"), found


def measured(model: Standing, **fields: Any) -> dict[str, float]:
    return build(spec(**fields), (1, ROWS, COLUMNS)).measure(model)


def by_hand(classifier: Any, morphed: bool, probabilities: bool, once: bool) -> dict[str, float]:
    """Return what is measured, from scores of one group of one image at a time."""
    sums = {"ensemble_top1": 0.0, "patch_top1": 0.0, "agreement": 0.0, "neighbour_cosine": 0.0}
    values, labels = pictures()
    for image, label in zip(values, labels.tolist(), strict=True):
        own = GROUPS[int(image.sum() * 1000) % 2].tolist() if morphed else list(range(PATCHES))
        tokens = {place: image[:, place // COLUMNS, place % COLUMNS] for place in range(PATCHES)}
        means = [
            torch.stack([tokens[place] for place in tokens if own[place] == group]).mean(0)
            for group in range(max(own) + 1)
        ]
        scores = [classifier(mean) for mean in means]
        weighed = [each.softmax(0) if probabilities else each for each in scores]
        counted = weighed if once else [weighed[group] for group in own]
        sums["ensemble_top1"] += int(sum(counted).argmax()) == label  # type: ignore[union-attr]
        predicted = [int(scores[group].argmax()) for group in own]
        sums["patch_top1"] += sum(each == label for each in predicted) / PATCHES
        pairs = [(a, b) for a in tokens for b in tokens if b - a == COLUMNS or (b - a == 1 and b % COLUMNS)]
        sums["agreement"] += sum(predicted[a] == predicted[b] for a, b in pairs) / len(pairs)
        alike = [float(torch.cosine_similarity(means[own[a]], means[own[b]], dim=0)) for a, b in pairs]
        sums["neighbour_cosine"] += sum(alike) / len(pairs)
    return {name: total / len(labels) for name, total in sums.items()}


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
@pytest.mark.parametrize("weighting", ["tokens", "groups"])
def test_zero_shot_is_the_nearest_text_of_every_patch_and_of_their_average(
    scores: str, weighting: str, tmp_path: Path
) -> None:
    file, embeddings = texts(tmp_path)
    found = measured(Standing(), text=file, encoder=TOWER, scores=scores, weighting=weighting)

    def classifier(token: Tensor) -> Tensor:
        return 100 * torch.stack([torch.cosine_similarity(token, text, dim=0) for text in embeddings])

    for morphed, name in ((False, ""), (True, "_at_3")):
        expected = by_hand(classifier, morphed, scores == "probabilities", weighting == "groups" and morphed)
        assert {key: found[key + name] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert len(found) == 8


def test_a_probe_is_a_linear_classifier_of_directions_for_every_setting() -> None:
    model = Standing(steps=5)
    found = measured(model)
    probes = model.trained
    assert isinstance(probes, Probes)
    for number, name in ((0, ""), (1, "_at_3")):
        weight, bias = probes.heads[number].weight, probes.heads[number].bias

        def classifier(token: Tensor, weight: Any = weight, bias: Any = bias) -> Tensor:
            return (weight @ token / token.norm() * WIDTH**0.5 + bias).detach()

        expected = by_hand(classifier, bool(number), False, False)
        assert {key: found[key + name] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_probes_learn_the_classes_of_patches_each_by_itself() -> None:
    short, long = (measured(Standing(steps=steps)) for steps in (0, 60))
    assert long["patch_top1"] > short["patch_top1"] + 0.2


def test_a_probe_is_trained_as_if_it_were_alone() -> None:
    alone, both = Standing(OneSetting(), steps=20), Standing(steps=20)
    found = [measured(model) for model in (alone, both)]
    assert found[0] == {name: value for name, value in found[1].items() if "_at_" not in name}


def test_a_group_counts_in_the_probes_loss_as_often_as_it_has_patches() -> None:
    torch.manual_seed(0)
    probes, (values, labels) = Probes(Columns(), CLASSES), pictures()
    total = 0.0
    for setting, grouped in enumerate(Columns()(values)):
        for rows, own, label in zip(grouped.rows, grouped.labels, labels, strict=True):
            for group in own.tolist():
                scores = probes.logits(setting, rows[group])
                total += float(-scores.log_softmax(0)[label].detach()) / (len(labels) * PATCHES)
    found = probes(Batch(labels, CLASSES, values=values), torch.Generator()).loss
    assert float(found.detach()) == pytest.approx(total)


def test_the_ensemble_with_morphing_is_another_one_only_because_directions_count() -> None:
    tokens = torch.tensor([[[10.0, 0], [0, 1], [0, 1]]])
    measure = PatchPredictions(spec())
    apart = torch.nn.functional.normalize(tokens, dim=-1)
    assert measure.ensemble(apart, torch.tensor([[0, 1, 2]])).tolist() == [1]
    together = torch.nn.functional.normalize(tokens.mean(1, keepdim=True), dim=-1)
    assert measure.ensemble(together, torch.zeros(1, 3, dtype=torch.int64)).tolist() == [0]


def test_neighbours_are_pairs_side_by_side_and_below() -> None:
    maps = torch.tensor([[0.0, 1, 1], [0, 1, 5]])[None, :, :, None]
    found = neighbours(maps, lambda a, b: (a == b)[..., 0].float())
    assert found.tolist() == [pytest.approx(3 / 7)]


def test_maps_of_the_first_image_of_each_class_are_kept(tmp_path: Path) -> None:
    file, embeddings = texts(tmp_path)
    model = Standing()
    measured(model, text=file, encoder=TOWER, pictures=3)
    kept = model.kept["patches"]
    assert (kept["positions"].tolist(), kept["labels"].tolist()) == ([0, 1, 2], [0, 1, 2])
    assert kept["settings"].tolist() == ["6 patches", "3 groups"]
    assert kept["predicted"].shape == kept["ranks"].shape == (2, 3, ROWS, COLUMNS)
    values, _ = pictures()
    for image in range(3):
        token = values[image, :, 1, 2]
        cosines = torch.cosine_similarity(token[None], embeddings, dim=1)
        assert kept["predicted"][0, image, 1, 2] == int(cosines.argmax())
        assert kept["ranks"][0, image, 1, 2] == int((cosines > cosines[image]).sum())
    assert ((kept["ranks"] == 0) == (kept["predicted"] == kept["labels"][None, :, None, None])).all()
    none = Standing()
    measured(none, text=file, encoder=TOWER, pictures=0)
    assert none.kept == {}


@pytest.mark.parametrize(
    "tensors",
    [{"a": torch.zeros(CLASSES + 1, WIDTH)}, {"a": torch.zeros(WIDTH)},
     {"a": torch.zeros(CLASSES, WIDTH), "b": torch.zeros(1)}],
    ids=["classes", "one row", "two tensors"],
)  # fmt: skip
def test_texts_that_do_not_fit_are_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    file, _ = texts(tmp_path, tensors)
    with pytest.raises(InputError, match=f"one tensor of {CLASSES} classes x {WIDTH} is needed"):
        measured(Standing(), text=file, encoder=TOWER)


def test_a_file_that_is_no_safetensors_and_an_encoder_of_one_patch_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"nothing")
    for name in ("broken", "absent"):
        with pytest.raises(InputError, match="no safetensors file that can be read"):
            measured(Standing(), text=str(tmp_path / name), encoder=TOWER)
    one = Columns()
    one.grid = (1, 1)
    with pytest.raises(InputError, match="this encoder makes one"):
        measured(Standing(one))


def test_the_papers_training_stays_where_a_part_of_it_is_written() -> None:
    found = spec(train={"lr": 0.1})
    assert (found.train.epochs, found.train.lr, found.train.optimizer.name) == (25, 0.1, "adam")
    assert found.train.weight_decay == 0.0
