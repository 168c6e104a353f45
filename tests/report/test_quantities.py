import pytest

from tokexp.report.quantities import size, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (45, "45 s"), (59.7, "1 min"), (160, "2 min 40 s"), (11100, "3 h 5 min"),
     (187200, "2 d 4 h")],
)  # fmt: skip
def test_a_span_is_read_in_its_two_largest_units(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (812, "812 B"), (1100, "1.1 kB"), (999_600, "1 MB"), (2.6e9, "2.6 GB"), (3e12, "3 TB")],
)
def test_bytes_have_a_decimal_unit(count, text):
    assert size(count) == text
