import pytest
import torch
from torch.nn.functional import layer_norm

from tokexp.models.token_input import TokenInput
from tokexp.tokenizers.base import Codebook


def codebook(metric: str = "euclidean") -> Codebook:
    return Codebook(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.1]]), metric)  # type: ignore[arg-type]


def test_codebook_passes_values_through_untouched_and_trains_nothing() -> None:
    embed = TokenInput(codebook(), "codebook")
    values = torch.randn(2, 2, 4, 4)
    assert embed(values) is values
    assert list(embed.parameters()) == []


def test_learned_looks_the_nearest_code_up_in_its_own_table_and_normalises() -> None:
    embed = TokenInput(codebook(), "learned").eval()
    values = torch.tensor([[0.9, 0.2], [-1.0, 0.8], [5.0, 5.0]]).T.reshape(1, 2, 1, 3)
    expected = layer_norm(embed.table.weight[:3], (2,), embed.norm.weight, embed.norm.bias, 1e-6)
    assert embed.indices(values).tolist() == [[[0, 1, 2]]]
    torch.testing.assert_close(embed(values)[0, :, 0].T, expected)


def test_the_search_goes_by_the_metric_of_the_codebook() -> None:
    value = torch.tensor([0.4, 0.45]).reshape(1, 2, 1, 1)
    assert TokenInput(codebook("cosine"), "learned").indices(value).item() == 2
    assert TokenInput(codebook("euclidean"), "learned").indices(value).item() == 1


def test_indices_that_are_known_are_used_instead_of_a_search() -> None:
    embed = TokenInput(codebook(), "learned").eval()
    values, indices = torch.full((1, 2, 2, 2), torch.nan), torch.tensor([[[0, 1], [2, 1]]])
    assert torch.equal(embed(values, indices)[0, :, 0, 1], embed(values, indices)[0, :, 1, 1])
    assert not torch.equal(embed(values, indices)[0, :, 0, 0], embed(values, indices)[0, :, 1, 0])


def test_the_table_starts_with_a_deviation_of_two_hundredths() -> None:
    torch.manual_seed(0)
    embed = TokenInput(Codebook(torch.randn(391, 32)), "learned")
    assert embed.table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert sum(parameter.numel() for parameter in embed.parameters()) == 12_576


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    embed = TokenInput(Codebook(torch.randn(50, 16)), "learned", dropout=0.5)
    values = torch.randn(4, 16, 6, 6)
    assert (embed(values) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (embed.eval()(values) == 0).float().mean().item() < 0.01


def test_the_output_table_is_what_embeds_and_has_no_gradient() -> None:
    codes = codebook()
    assert TokenInput(codes, "codebook").output_table() is not None
    assert torch.equal(TokenInput(codes, "codebook").output_table(), codes.codes)
    learned = TokenInput(codes, "learned")
    assert torch.equal(learned.output_table(), learned.table.weight)
    assert not learned.output_table().requires_grad


def test_another_way_to_embed_is_refused() -> None:
    with pytest.raises(ValueError, match="'codebook' or 'learned'"):
        TokenInput(codebook(), "pixels")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_module_in_double_precision_finds_the_same_codes(metric: str) -> None:
    embed, values = TokenInput(codebook(metric), "learned").eval(), torch.randn(2, 2, 3, 4)
    before = embed.indices(values)
    assert torch.equal(embed.double().indices(values.double()), before)
