import pytest
import torch

from tokexp.objectives.losses import chosen_cross_entropy, soft_cross_entropy, top_k_accuracy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_follows_the_formula_for_soft_targets(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7), torch.rand(5, 7).softmax(1)
    smooth = (1 - smoothing) * targets + smoothing / 7
    expected = -(smooth * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).mean()
    torch.testing.assert_close(soft_cross_entropy(logits, targets, smoothing), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_count_as_one_hot_targets(smoothing: float) -> None:
    logits, classes = torch.randn(5, 7), torch.tensor([0, 6, 2, 2, 5])
    expected = soft_cross_entropy(logits, torch.eye(7)[classes], smoothing)
    torch.testing.assert_close(soft_cross_entropy(logits, classes, smoothing), expected)


def test_the_loss_is_computed_in_full_precision_under_autocast() -> None:
    logits, classes = torch.randn(64, 391), torch.randint(391, (64,))
    low = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = soft_cross_entropy(low, classes)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, soft_cross_entropy(low.float(), classes))


def test_accuracy_counts_the_class_among_the_k_highest() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    classes = torch.tensor([0, 1, 0])
    assert top_k_accuracy(logits, classes).item() == pytest.approx(1 / 3)
    assert top_k_accuracy(logits, classes, 2).item() == pytest.approx(2 / 3)
    assert top_k_accuracy(logits, classes, 5).item() == 1.0


def test_only_counted_cells_enter_the_chosen_loss_and_accuracy() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    classes, counted = logits.argmax(-1), torch.tensor([[True, False, True], [False, True, False]])
    classes[0, 0] = (classes[0, 0] + 1) % 5
    loss, accuracy = chosen_cross_entropy(logits, classes, counted)
    expected = torch.nn.functional.cross_entropy(logits[counted], classes[counted])
    torch.testing.assert_close(loss, expected)
    assert accuracy.item() == pytest.approx(2 / 3)
    assert chosen_cross_entropy(logits, classes, torch.zeros(2, 3).bool())[0].item() == 0.0
