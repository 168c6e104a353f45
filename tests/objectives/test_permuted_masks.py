"""Which row of pim and mapet sees what: the rule of the methods, for every cutting point."""

import pytest
import torch
from torch import Tensor

from tokexp.objectives.pim import visible

ORDER = [4, 2, 6, 1, 5, 3]
"""Six patches, numbered from 1, in the order of the worked example."""

QUERIES_3 = "1010101 1110 | 1110111 0100 | 1110101 0110 | 1010100 1111"
CONTENT_3 = "1010100 1111 | 1110101 0110 | 1010100 1111 | 1111111 0000 | 1010100 1111 | 1110111 0100 | 1010101 1110"
QUERIES_2 = "1010101 10110 | 1000100 11111 | 1110111 00100 | 1110101 00110 | 1010100 10111"
CONTENT_2 = (
    "1000100 11111 | 1110101 00110 | 1010100 10111 | 1111111 00000 | 1000100 11111 | 1110111 00100 | 1010101 10110"
)


def ranks_of(order: list[int]) -> dict[int, int]:
    """Return the rank of the class token (0) and of every patch."""
    return {0: 0, **{patch: rank for rank, patch in enumerate(order, 1)}}


def by_rule(order: list[int], context: int) -> tuple[dict[int, str], dict[int, str]]:
    """Return the rows of queries by target and of content by token, written down from the three cases of the method.

    Columns: class token and patches in raster order, then mask tokens of the targets in raster order.
    """
    rank, count = ranks_of(order), len(order)
    targets = [u for u in range(1, count + 1) if rank[u] > context]

    def known(v: int, u: int) -> bool:
        return rank[v] <= context or rank[v] < rank[u]

    def row(real: list[bool], masks: list[bool]) -> str:
        return "".join("01"[x] for x in real) + " " + "".join("01"[x] for x in masks)

    queries = {u: row([known(v, u) for v in range(count + 1)], [rank[v] >= rank[u] for v in targets]) for u in targets}
    content = {
        u: row([known(v, u) or v == u for v in range(count + 1)], [rank[v] > rank[u] for v in targets])
        for u in range(count + 1)
    }
    return queries, content


def in_raster(order: list[int], context: int) -> tuple[dict[int, str], dict[int, str]]:
    """Return the same rows from the constant mask: rank order turned back into raster order."""
    targets = len(order) - context
    seen = visible(context, targets, mask_tokens=True)
    places = [0, *order]
    wanted = sorted(order[context:])

    def row(line: Tensor) -> str:
        real = dict(zip(places, [*line[: 1 + context], *line[1 + context + targets :]], strict=True))
        masks = dict(zip(order[context:], line[1 + context : 1 + context + targets], strict=True))
        return "".join("01"[int(real[v])] for v in sorted(places)) + " " + "".join("01"[int(masks[v])] for v in wanted)

    free = torch.cat([torch.ones(1 + context + targets), torch.zeros(targets)]).bool()
    content = {v: row(free) for v in places[: 1 + context]}
    content |= {v: row(seen[number]) for number, v in enumerate(order[context:])}
    return {v: row(seen[targets + number]) for number, v in enumerate(order[context:])}, content


def lines(table: dict[int, str]) -> str:
    return " | ".join(table[u] for u in sorted(table))


@pytest.mark.parametrize(("context", "queries", "content"), [(2, QUERIES_3, CONTENT_3), (1, QUERIES_2, CONTENT_2)])
def test_the_worked_example_of_six_patches(context: int, queries: str, content: str) -> None:
    found = in_raster(ORDER, context)
    assert (lines(found[0]), lines(found[1])) == (queries, content)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_thresholds_equal_the_rule_for_every_cutting_point_and_random_orders(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    for context in range(count):
        for _ in range(5):
            order = (1 + torch.randperm(count, generator=generator)).tolist()
            assert in_raster(order, context) == by_rule(order, context)


@pytest.mark.parametrize("context", [0, 1, 30, 50, 60, 98, 195])
def test_with_mask_tokens_every_row_sees_every_place_exactly_once(context: int) -> None:
    targets = 196 - context
    seen = visible(context, targets, mask_tokens=True)
    masks, content = seen[:, 1 + context : 1 + context + targets], seen[:, 1 + context + targets :]
    assert seen.shape == (2 * targets, 197 + targets)
    assert torch.equal(masks, ~content)
    assert bool((seen.sum(1) == 197).all())


def test_without_mask_tokens_a_row_sees_as_many_places_as_its_threshold() -> None:
    seen = visible(3, 5, mask_tokens=False)
    assert seen.sum(1).tolist() == [5, 6, 7, 8, 9, 4, 5, 6, 7, 8]
    with_tokens = visible(3, 5, mask_tokens=True)
    assert torch.equal(seen, torch.cat([with_tokens[:, :4], with_tokens[:, 9:]], dim=1))


def test_the_first_query_sees_context_alone_and_the_last_all_but_itself() -> None:
    seen = visible(2, 4, mask_tokens=True)
    known, masks, content = seen[:, :3], seen[:, 3:7], seen[:, 7:]
    assert bool(known.all())
    assert (masks[4].tolist(), content[4].tolist()) == ([True] * 4, [False] * 4)
    assert (masks[7].tolist(), content[7].tolist()) == ([False] * 3 + [True], [True] * 3 + [False])
