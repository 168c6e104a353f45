"""The evaluation `clean`."""

from tokexp.evaluation.clean import build
from tokexp.spec.evaluation import Clean


def test_a_clean_test_changes_no_pixel_so_stored_tokens_are_read() -> None:
    assert build(Clean(kind="clean"), (3, 32, 32)) is None
