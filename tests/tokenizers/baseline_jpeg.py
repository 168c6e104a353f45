"""Reads the quantised coefficients out of a baseline JPEG: as ITU-T T.81 describes them, written for the tests alone.

One scan, no restarts, which is what Pillow writes without `progressive`.
"""

import struct
from dataclasses import dataclass

import numpy as np

# T.81 figure 5: place of the n-th coefficient in a block, row by row.
ZIGZAG = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
]  # fmt: skip


@dataclass
class Component:
    """A plane: its sampling factors and the numbers of its Huffman tables."""

    across: int
    down: int
    direct: int = 0
    alternating: int = 0


class Bits:
    """The scan's bits, stuffed zeros removed."""

    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data.replace(b"\xff\x00", b"\xff"))
        self.place = 0

    def take(self, count: int) -> int:
        self.place += count
        return int(self.text[self.place - count : self.place] or "0", 2)

    def symbol(self, table: dict[str, int]) -> int:
        for length in range(1, 17):
            found = table.get(self.text[self.place : self.place + length])
            if found is not None:
                self.place += length
                return found
        raise ValueError("no code")

    def signed(self, size: int) -> int:
        value = self.take(size) if size else 0
        return value if not size or value >> (size - 1) else value - (1 << size) + 1


def coefficients(data: bytes) -> list[np.ndarray]:
    """Return for each plane its levels (rows, columns, 64) in zig-zag order, blocks of padding included."""
    tables: dict[int, dict[str, int]] = {}
    components: dict[int, Component] = {}
    size, place = (0, 0), 2
    while True:
        marker, length = struct.unpack(">HH", data[place : place + 4])
        body = data[place + 4 : place + 2 + length]
        place += 2 + length
        if marker == 0xFFC0:
            size = struct.unpack(">HH", body[1:5])
            for at in range(6, len(body), 3):
                components[body[at]] = Component(body[at + 1] >> 4, body[at + 1] & 15)
        elif marker == 0xFFC4:
            _read_tables(body, tables)
        elif marker == 0xFFDA:
            for at in range(1, 1 + 2 * body[0], 2):
                components[body[at]].direct, components[body[at]].alternating = body[at + 1] >> 4, body[at + 1] & 15
            return _scan(Bits(data[place : data.rindex(b"\xff\xd9")]), list(components.values()), tables, size)


def _read_tables(body: bytes, tables: dict[int, dict[str, int]]) -> None:
    while body:
        counts, symbols, code, table = body[1:17], body[17:], 0, {}
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table[f"{code:0{length}b}"] = symbols[0]
                symbols, code = symbols[1:], code + 1
            code <<= 1
        tables[body[0]], body = table, symbols


def _scan(
    bits: Bits, components: list[Component], tables: dict[int, dict[str, int]], size: tuple[int, int]
) -> list[np.ndarray]:
    if len(components) == 1:
        components[0].across = components[0].down = 1
    most = max(part.down for part in components), max(part.across for part in components)
    units = -(-size[0] // (8 * most[0])), -(-size[1] // (8 * most[1]))
    planes = [np.zeros((units[0] * part.down, units[1] * part.across, 64), int) for part in components]
    before = [0] * len(components)
    for unit in range(units[0] * units[1]):
        row, column = divmod(unit, units[1])
        for number, part in enumerate(components):
            for inner in range(part.down * part.across):
                down, right = divmod(inner, part.across)
                block = planes[number][row * part.down + down, column * part.across + right]
                before[number] += bits.signed(bits.symbol(tables[part.direct]))
                block[0] = before[number]
                _alternating(bits, tables[16 + part.alternating], block)
    return planes


def _alternating(bits: Bits, table: dict[str, int], block: np.ndarray) -> None:
    place = 1
    while place < 64:
        symbol = bits.symbol(table)
        if symbol == 0:
            return
        place += symbol >> 4
        if symbol & 15:
            block[place] = bits.signed(symbol & 15)
        place += 1
