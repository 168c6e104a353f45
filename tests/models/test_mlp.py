"""The model kind mlp and a table of the model's own, against the formulas of MaPeT's section 5.3."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from tokexp.models.base import Backbone
from tokexp.models.token_input import OwnTable
from tokexp.registry import implementation
from tokexp.spec.models import ModelSpec
from tokexp.tokenizers.base import Codebook

CODES = torch.randn(11, 3, generator=torch.Generator().manual_seed(2))


def model(channels: int = 6, **fields: object) -> Backbone:
    torch.manual_seed(0)
    spec = TypeAdapter(ModelSpec).validate_python({"kind": "mlp", "width": 8, **fields})
    built = implementation("models", "mlp")(spec, channels, (4, 4))
    assert isinstance(built, Backbone)
    return built


def test_it_is_a_linear_layer_relu_and_the_mean_of_every_token() -> None:
    backbone, values = model(), torch.randn(2, 6, 4, 4)
    weight, bias = backbone.stem.parameters()
    expected = torch.zeros(2, 8)
    for image in range(2):
        for row in range(4):
            for column in range(4):
                hidden = weight.reshape(8, 6) @ values[image, :, row, column] + bias
                expected[image] += hidden.clamp(min=0) / 16
    torch.testing.assert_close(backbone(values), expected)


def test_places_do_not_matter() -> None:
    backbone, values = model(depth=1), torch.randn(2, 6, 4, 4)
    shuffled = values.flatten(2)[:, :, torch.randperm(16)].unflatten(2, (4, 4))
    torch.testing.assert_close(backbone(shuffled), backbone(values))


def test_its_size_is_that_of_table_7_without_table_and_classifier() -> None:
    backbone = model(192, width=192)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 192 * 192 + 192


def test_a_token_reads_the_row_of_its_code() -> None:
    table = OwnTable(Codebook(CODES), 5)
    indices = torch.randint(11, (2, 4, 4))
    found = table(Codebook(CODES).lookup(indices))
    assert found.shape == (2, 5, 4, 4)
    for place in ((0, 1, 2), (1, 3, 0)):
        expected = table.table.weight[indices[place]]
        assert torch.equal(found[place[0], :, place[1], place[2]], expected)


def test_only_rows_of_tokens_that_occur_are_trained() -> None:
    table = OwnTable(Codebook(CODES), 5)
    table(Codebook(CODES).lookup(torch.full((1, 2, 2), 7))).sum().backward()
    gradient = table.table.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [7]
    assert [name for name, _ in table.named_parameters()] == ["table.weight"]
    assert isinstance(table.table, nn.Embedding)


def test_a_table_needs_tokens_to_read() -> None:
    with pytest.raises(ValidationError, match="needs input: tokens"):
        TypeAdapter(ModelSpec).validate_python({"kind": "mlp", "input": "pixels", "token_table": 8})
