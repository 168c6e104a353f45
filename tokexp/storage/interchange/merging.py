"""Several token stores as one: their images one after another, with the codes that occur in any of them.

Stores hold only the codes in use, so parts of one data set, tokenised apart, number the same code differently. Equal
vectors are the same code; the merged store holds each once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tokexp.errors import InputError
from tokexp.storage.implicit import computed_codes
from tokexp.storage.interchange.table import Block, TokenTable, table_of
from tokexp.storage.renumber import apply_table
from tokexp.storage.store import TokenStore


def merge_stores(stores: Sequence[TokenStore]) -> TokenTable:
    """Return one table of all images, in the order of the stores; labels keep their numbers.

    Raises InputError unless all have one grid, one metric and parts of one codebook. Of that, stores keep no mark but
    the codes: at least half of the smaller codebook must be in the larger, and their union must not be larger than
    the codebook that was tokenised with, where that is noted. Codes that are computed must be of the same levels.
    """
    tables = [table_of(store) for store in stores]
    codes, renumbering = merged_codes(stores)
    facts = _shared([table.facts for table in tables])

    def blocks() -> Iterator[Block]:
        for table, numbers in zip(tables, renumbering, strict=True):
            for indices, labels in table.blocks():
                yield apply_table(indices, numbers), labels

    return TokenTable(
        stores[0].grid, sum(table.images for table in tables), codes, max(store.num_classes for store in stores),
        blocks, stores[0].metric, stores[0].implicit_codebook, facts,
    )  # fmt: skip


def _check_form(first: TokenStore, other: TokenStore) -> None:
    pairs: Mapping[str, tuple[object, object]] = {
        "grid": (first.grid, other.grid),
        "metric": (first.metric, other.metric),
        "width of codes": (first.codes.shape[1], other.codes.shape[1]),
        "computed codebook": (first.implicit_codebook, other.implicit_codebook),
        "levels of codes": (first.facts.get("fsq_levels"), other.facts.get("fsq_levels")),
        "number of bits": (first.facts.get("lfq_bits"), other.facts.get("lfq_bits")),
        "meaning of coefficients": (first.facts.get("dct"), other.facts.get("dct")),
        "training of the tokenizer": (first.facts.get("weights"), other.facts.get("weights")),
        "size of the whole codebook": (first.facts.get("asked_codes"), other.facts.get("asked_codes")),
    }
    for what, (one, two) in pairs.items():
        empty = what == "width of codes" and 0 in (first.num_codes, other.num_codes)
        if one != two and not empty:
            raise InputError(
                f"{other.path} has another {what} ({two}) than {first.path} ({one}): their tokens do not go together"
            )


def merged_codes(stores: Sequence[TokenStore]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the union (U, d) and for each store the new number of every old one, uint16 (K,).

    Raises InputError as `merge_stores` does.
    """
    for store in stores[1:]:
        _check_form(stores[0], store)
    if stores[0].implicit_codebook:
        return _merged_computed(stores)
    places: dict[bytes, int] = {}
    rows: list[np.ndarray] = []
    renumbering = []
    for store in stores:
        before = set(places)
        keys = [row.tobytes() for row in store.codes + 0.0]  # -0.0 becomes 0.0: equal codes have equal bytes
        _check_overlap(stores[0], store, before, keys)
        for key, row in zip(keys, store.codes, strict=True):
            if key not in places:
                places[key] = len(rows)
                rows.append(row)
        renumbering.append(np.array([places[key] for key in keys], np.int64))
    asked = stores[0].facts.get("asked_codes")
    if len(rows) > (asked if isinstance(asked, int) else 1 << 16):
        raise InputError(
            f"together the stores have {len(rows)} codes, more than a codebook of {asked or 1 << 16}: "
            "they are not of the same tokenizer"
        )
    return (np.stack(rows) if rows else stores[0].codes), [numbers.astype(np.uint16) for numbers in renumbering]


def _check_overlap(first: TokenStore, other: TokenStore, before: set[bytes], keys: list[bytes]) -> None:
    smaller = min(len(before), len(set(keys)))
    shared = len(before & set(keys))
    if 2 * shared < smaller:
        raise InputError(
            f"{other.path} has {shared} of {smaller} codes in common with {first.path}: "
            "they are not of the same tokenizer, so their tokens mean different things"
        )


def _merged_computed(stores: Sequence[TokenStore]) -> tuple[np.ndarray, list[np.ndarray]]:
    everything = computed_codes(stores[0].facts)
    places = {row.tobytes(): place for place, row in enumerate(everything + 0.0)}
    numbers = [np.array([places[row.tobytes()] for row in store.codes + 0.0], np.int64) for store in stores]
    used = np.unique(np.concatenate(numbers))
    return everything[used], [np.searchsorted(used, own).astype(np.uint16) for own in numbers]


def _shared(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in facts[0].items() if all(other.get(name) == value for other in facts)}
