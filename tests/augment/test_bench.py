"""The benchmark's two ways of cropping give the same maps, and its rows carry their bound."""

import torch

from tokexp.augment.crops import boxes, draw_crops
from tokexp.bench import augment as bench


def test_the_two_ways_that_are_compared_give_the_same_maps():
    generator, codebook, indices = bench._material(3, torch.device("cpu"))
    box = boxes(draw_crops(3, bench.SCALE, bench.RATIO, generator), *bench.STORED)
    one_hot, looked_up = bench._one_hot_way(indices, codebook, box), bench._lookup_way(indices, codebook, box)
    assert one_hot.shape == (3, 32, 28, 28)
    assert (one_hot - looked_up).abs().max() < 1e-5


def test_the_ratio_says_whether_its_bound_holds(monkeypatch):
    costs = {"_one_hot_way": 8.0, "_lookup_way": 2.0}
    spent = []
    for name, cost in costs.items():
        monkeypatch.setattr(bench, name, lambda *_, cost=cost: spent.append(cost))
    monkeypatch.setattr(bench, "_seconds", lambda way, device: (spent.clear(), way(), sum(spent))[-1])
    (row,) = bench.crop_rows(torch.device("cpu"), images=2, rounds=3)
    assert row.value == row.low == row.high == 4.0
    assert (row.bound, row.holds) == (bench.BOUND, False)
