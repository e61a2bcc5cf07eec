"""Rows of many files laid out as a batch, in one call of compiled code, which reads columns by their addresses.

A batch's samples come from dozens of files. To hand each file's arrays to compiled code costs more than to copy the
samples, so a kernel is given a table of addresses instead, and makes arrays of them itself. Who calls it must hold the
files' `Rows` meanwhile (`Samples.located`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from pipeline.dataset.randomness import uniform_of
from pipeline.dataset.rows import Bits, Rows

TOKENS, IS_WIDE, WORD_STARTS, STARTS, BOUNDARY, LABEL, MASK_STARTS, MASK_POSITIONS, MASK_INPUTS = range(9)
COLUMNS = 9
Ids = npt.NDArray[np.int64]
MOST = 1 << 40
"""Items that an array is said to have: its true length isn't asked for."""


def addresses_of(rows: Rows) -> list[int]:
    """A file's row of the table: each column's address, and whether its ids take four bytes. 0 where it has none."""
    masks = rows.masks
    columns: list[npt.NDArray[Any]] = [rows.word_starts, rows.starts, rows.segment_boundary, rows.next_sentence_label]
    columns += [] if masks is None else [masks.starts, masks.positions, masks.inputs]
    addresses = [_address(column) for column in columns]
    return [
        _address(rows.input_ids),
        int(rows.input_ids.itemsize == 4),
        *addresses,
        *[0] * (COLUMNS - 2 - len(columns)),
    ]


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


@intrinsic
def _pointer(_: Any, address: Any) -> Any:
    def code(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), code


@njit(cache=True, nogil=True, inline="always")
def bytes_at(address: int) -> npt.NDArray[np.uint8]:
    return carray(_pointer(address), (MOST,), np.uint8)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, inline="always")
def shorts_at(address: int) -> npt.NDArray[np.uint16]:
    return carray(_pointer(address), (MOST,), np.uint16)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, inline="always")
def words_at(address: int) -> npt.NDArray[np.uint32]:
    return carray(_pointer(address), (MOST,), np.uint32)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True, inline="always")
def id_at(address: int, is_wide: int, place: int) -> int:
    """One of a file's ids."""
    return np.int64(words_at(address)[place]) if is_wide else np.int64(shorts_at(address)[place])  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def lay_rows(
    addresses: Ids,
    files: Ids,
    places: Ids,
    keys: npt.NDArray[np.uint64],
    starts: Ids,
    to: Ids,
    ids: Ids,
    types: Ids,
    positions: Ids,
    begins: Bits,
    labels: Ids,
) -> Ids:
    """Lay the rows at `places` of `files` as the samples `to` of the batch, whose `starts` say how long each may be.

    A row that is longer keeps the end of A and the start of B, the longer one cut first; one without B a stretch that
    its key draws. Returns from where to where A and B of each row are kept, [n, 4].
    """
    froms = np.empty((len(places), 4), np.int64)
    for at in range(len(places)):
        columns = addresses[files[at]]
        word_starts, row_starts = bytes_at(columns[WORD_STARTS]), words_at(columns[STARTS])
        first, end = np.int64(row_starts[places[at]]), np.int64(row_starts[places[at] + 1])
        boundary = np.int64(shorts_at(columns[BOUNDARY])[places[at]])
        labels[to[at]] = bytes_at(columns[LABEL])[places[at]]
        length, begin, size = end - first, starts[to[at]], starts[to[at] + 1] - starts[to[at]]
        a, a_end, b, b_end = 1, boundary - 1, boundary, length - 1
        if boundary == length:
            b = b_end = length
            a += int(uniform_of(keys[at], 1) * (length - size + 1))
            a_end = a + size - 2
        elif size < length:
            room = size - 3
            b_size = min(b_end - b, max(room // 2, room - (a_end - a)))
            a, b_end = a_end - (room - b_size), b + b_size
        froms[at] = (a, a_end, b, b_end)
        cls = id_at(columns[TOKENS], columns[IS_WIDE], first)
        sep = id_at(columns[TOKENS], columns[IS_WIDE], end - 1)
        place = begin
        ids[place], begins[place], types[place] = cls, 0, 0
        for segment in range(1 if boundary == length else 2):
            for source in range(first + (b if segment else a), first + (b_end if segment else a_end)):
                place += 1
                ids[place] = id_at(columns[TOKENS], columns[IS_WIDE], source)
                begins[place] = (word_starts[source >> 3] >> (source & 7)) & 1
                types[place] = segment
            place += 1
            ids[place], begins[place], types[place] = sep, 0, segment
        for offset in range(size):
            positions[begin + offset] = offset
    return froms


@njit(cache=True, nogil=True)
def stored_masks(addresses: Ids, files: Ids, places: Ids, froms: Ids, starts: Ids) -> tuple[Ids, Ids]:
    """The masks stored with rows, whose tokens came to stand at `starts`, from `froms` [n, 4] of them."""
    count = 0
    for at in range(len(places)):
        mask_starts = words_at(addresses[files[at], MASK_STARTS])
        count += mask_starts[places[at] + 1] - mask_starts[places[at]]
    positions, inputs = np.empty(count, np.int64), np.empty(count, np.int64)
    used = 0
    for at in range(len(places)):
        columns = addresses[files[at]]
        mask_starts, mask_positions = words_at(columns[MASK_STARTS]), shorts_at(columns[MASK_POSITIONS])
        a, a_end, b, b_end = froms[at]
        for mask in range(np.int64(mask_starts[places[at]]), np.int64(mask_starts[places[at] + 1])):
            position = np.int64(mask_positions[mask])
            if a <= position < a_end:
                positions[used] = starts[at] + 1 + position - a
            elif b <= position < b_end:
                positions[used] = starts[at] + 2 + a_end - a + position - b
            else:
                continue
            inputs[used] = id_at(columns[MASK_INPUTS], columns[IS_WIDE], mask)
            used += 1
    return positions[:used], inputs[:used]
