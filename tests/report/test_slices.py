"""A search's metric over each parameter: where dots stand, whatever their number."""

import math
import re

import pytest

from tokexp.report.search_figures import slice_figure
from tokexp.spec.searching import Choice, FloatRange, IntRange

LOG = FloatRange.model_validate({"float": [0.001, 0.1], "log": True})


def rows(values):
    return [
        {
            "number": number,
            "path": "lr",
            "value": value,
            "metric": "top1",
            "result": 0.5 + number / 10,
            "feasible": True,
        }
        for number, value in enumerate(values)
    ]


def places(figure):
    """Return the horizontal place of each trial's dot, by number."""
    found = re.findall(r'<title>trial (\d+):[^<]*</title>.*?<use [^>]*\bx="([\d.]+)"', figure, re.DOTALL)
    return {int(number): float(x) for number, x in found}


def parts(values, searched):
    """Return how far along its way from the first dot to the last each dot stands, from 0 to 1."""
    x = places(slice_figure(rows(values), "top1", {"lr": searched}))
    return [(x[number] - x[0]) / (x[len(values) - 1] - x[0]) for number in range(len(values))]


def test_a_few_points_of_a_range_stand_where_their_values_are_on_its_own_scale():
    values = [0.0012, 0.0013, 0.02, 0.09]
    logs = [math.log(value) for value in values]
    expected = [(each - logs[0]) / (logs[-1] - logs[0]) for each in logs]
    assert parts(values, LOG) == pytest.approx(expected, abs=0.01)
    linear = FloatRange.model_validate({"float": [0.0, 0.1]})
    expected = [(each - values[0]) / (values[-1] - values[0]) for each in values]
    assert parts(values, linear) == pytest.approx(expected, abs=0.01)
    assert parts([1, 2, 4], IntRange.model_validate({"int": [1, 4]})) == pytest.approx([0, 1 / 3, 1], abs=0.01)


def test_values_of_a_range_are_no_labels_but_choices_are():
    assert "0.0123457" not in slice_figure(rows([0.0123457, 0.05]), "top1", {"lr": LOG})
    assert parts([1, 2, 64], Choice.model_validate({"choice": [1, 2, 64]})) == pytest.approx([0, 0.5, 1], abs=0.01)


def test_a_short_range_has_readable_marks_on_a_logarithmic_axis():
    short = FloatRange.model_validate({"float": [0.02, 0.05], "log": True})
    figure = slice_figure(rows([0.03, 0.04]), "top1", {"lr": short})
    assert "0.02" in figure
    assert "0.05" in figure
