"""The bench of stems measures what it says, at a small size: pairs in turns, anchors, and bounds where they belong."""

import pytest
import torch

from tokexp.bench import stems

SMALL = {"width": 24, "depth": 1, "heads": 2}


def test_pixel_attention_is_torchs() -> None:
    torch.manual_seed(0)
    projections, values = torch.nn.Linear(16, 48), torch.randn(1, 16, 12, 12)
    query, key, value = projections(values.flatten(2).mT).chunk(3, -1)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(stems.pixel_attention(projections, values, 144), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stems.pixel_attention(projections, values, 10), expected[:, :10], atol=1e-5, rtol=1e-4)


def test_steps_are_compared_in_turns_with_interval_anchor_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    found = stems.step_rows("base", rounds=2, **SMALL)
    measured, counted = found[::2], found[1::2]
    assert [row.name.split(" over")[0] for row in measured] == ["stems/step with MoTo", "stems/step with TokenProp"]
    assert [row.bound for row in measured] == [stems.MOTO_BOUND, stems.TOKEN_PROP_BOUND]
    for row in measured:
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
        assert str(row.anchor).startswith("paper: 1.0")
        if not torch.cuda.is_available():
            assert row.holds is None
            assert "this is a CPU" in str(row.anchor)
    assert all(row.value > 1 and row.holds is None for row in counted)
    assert "(2 of 2)" in capsys.readouterr().err


def test_a_smaller_model_is_shown_without_a_bound() -> None:
    assert {row.bound for row in stems.step_rows("small", rounds=1, **SMALL)} == {None}


def test_operations_of_the_published_size_are_the_papers() -> None:
    plain = stems.operations({"size": "small"})
    # 4.61 G multiplications forward (DeiT-S) and twice that backward, without the gradient of the pixels.
    assert plain == pytest.approx(3 * 2 * 4.61e9, rel=0.02)
    decoder = stems.operations({"size": "small"}, terms=[{"kind": "token_prop"}]) - plain
    # 0.442 G where a skip is a convolution of its own; here it is part of the one beside it.
    assert 3 * 2 * 0.40e9 < decoder < 3 * 2 * 0.442e9


def test_the_module_is_far_faster_than_attention_between_pixels_and_says_what_was_timed() -> None:
    row = stems.module_row(rounds=2, side=96)
    assert row.bound == stems.ATTENTION_BOUND
    assert row.holds is (row.value >= row.bound)
    assert "paper: 7.9 (4.12 ms over 0.52 ms)" in str(row.anchor)
    assert ("4,096 of 9,216 queries" in str(row.anchor)) is not torch.cuda.is_available()
