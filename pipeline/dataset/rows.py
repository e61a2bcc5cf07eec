"""Samples as they are stored: Arrow IPC files of one record batch, whose columns map into memory as numpy arrays.

Any Arrow reader shows them, `datasets.load_dataset("arrow", ...)` among them. A token costs 2 bytes and a bit.

Legend: S samples, T tokens of all of them, M predictions of all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Ids = npt.NDArray[np.unsignedinteger[Any]]
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StoredMasks:
    """Masks that were drawn when the dataset was built."""

    starts: npt.NDArray[np.int32]
    """[S + 1], into the two below."""
    positions: npt.NDArray[np.uint16]
    """[M], in the sample, ascending."""
    inputs: Ids
    """[M], what the model sees there."""

    def cut(self, first: int, last: int) -> "StoredMasks":
        """Those of the samples from `first` to before `last`."""
        starts = self.starts[first : last + 1]
        held = slice(int(starts[0]), int(starts[-1]))
        return StoredMasks(starts - starts[0], self.positions[held], self.inputs[held])


@dataclass(frozen=True)
class Rows:
    """[CLS] A [SEP] B [SEP], or [CLS] A [SEP] of a dataset without pairs; unmasked, one after the other."""

    input_ids: Ids
    """[T] uint16, or uint32 for a vocabulary of more."""
    word_starts: Bits
    """[ceil(T / 8)], a bit a token, the least significant first: whether a word starts there. Never at a special."""
    starts: npt.NDArray[np.int32]
    """[S + 1], into the tokens."""
    segment_boundary: npt.NDArray[np.uint16]
    """[S], index of B's first token in the sample; without B its length."""
    next_sentence_label: npt.NDArray[np.uint8]
    """[S], 0: B follows A; 1: it is of another document, or came before A. Without B 0."""
    masks: StoredMasks | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """[S]"""
        return np.diff(self.starts)

    def begins_word(self, first: int, last: int) -> Bits:
        """A byte for each token of the samples from `first` to before `last`: whether a word starts there."""
        start, end = int(self.starts[first]), int(self.starts[last])
        bits = np.unpackbits(self.word_starts[start >> 3 : (end + 7) >> 3], bitorder="little")
        return bits[start & 7 : (start & 7) + end - start]

    def cut(self, first: int, last: int) -> "Rows":
        """The samples from `first` to before `last`."""
        starts = self.starts[first : last + 1]
        return Rows(
            self.input_ids[starts[0] : starts[-1]],
            np.packbits(self.begins_word(first, last), bitorder="little"),
            starts - starts[0],
            self.segment_boundary[first:last],
            self.next_sentence_label[first:last],
            None if self.masks is None else self.masks.cut(first, last),
        )

    def masked(self, masks: StoredMasks) -> "Rows":
        """With these masks."""
        return replace(self, masks=masks)


def joined(several: Sequence[Rows]) -> Rows:
    """Samples one after the other; with masks where the first have them."""
    if len(several) == 1:
        return several[0]
    begins = np.concatenate([each.begins_word(0, len(each)) for each in several])
    masks = [each.masks for each in several if each.masks is not None]
    return Rows(
        np.concatenate([each.input_ids for each in several]),
        np.packbits(begins, bitorder="little"),
        _starts([each.starts for each in several]),
        np.concatenate([each.segment_boundary for each in several]),
        np.concatenate([each.next_sentence_label for each in several]),
        joined_masks(masks) if masks else None,
    )


def joined_masks(several: Sequence[StoredMasks]) -> StoredMasks:
    """Masks of samples one after the other."""
    return StoredMasks(
        _starts([each.starts for each in several]),
        np.concatenate([each.positions for each in several]),
        np.concatenate([each.inputs for each in several]),
    )


def _starts(several: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    lengths = np.concatenate([np.diff(each) for each in several])
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)


def write_rows(path: Path, rows: Rows) -> None:
    """An Arrow IPC file of them."""
    import pyarrow as pa

    batch = _batch_of(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_rows(path: Path) -> Rows:
    """The rows of a file that `write_rows` wrote, mapped into memory: nothing is read before it is used."""
    import pyarrow as pa

    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    ids, words = batch["input_ids"], batch["word_starts"]
    masks = None
    if "masked_lm_positions" in batch.schema.names:
        positions, inputs = batch["masked_lm_positions"], batch["masked_lm_inputs"]
        masks = StoredMasks(numbers(positions.offsets), numbers(positions.values), numbers(inputs.values))
    return Rows(
        numbers(ids.values),
        np.frombuffer(words.values.buffers()[1], np.uint8)[: (len(words.values) + 7) // 8],
        numbers(ids.offsets),
        numbers(batch["segment_boundary"]),
        numbers(batch["next_sentence_label"]),
        masks,
    )


# Numpy's arrays and Arrow's, by their memory: pyarrow's own conversions import pandas, for a sixth of a second


def numbers(array: "pa.Array") -> npt.NDArray[Any]:
    """An Arrow array of numbers without nulls, as it lies in memory."""
    kind = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1] or b"", kind)[array.offset : array.offset + len(array)]


def _arrow(array: npt.NDArray[Any]) -> "pa.Array":
    """Of the same memory, which is whole."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), len(array), [None, pa.py_buffer(array)])


def _batch_of(rows: Rows) -> "pa.RecordBatch":
    """The columns, without a copy."""
    import pyarrow as pa

    starts = _arrow(rows.starts)
    bits = pa.Array.from_buffers(pa.bool_(), len(rows.input_ids), [None, pa.py_buffer(rows.word_starts)])
    columns = {
        "input_ids": pa.ListArray.from_arrays(starts, _arrow(rows.input_ids)),
        "segment_boundary": _arrow(rows.segment_boundary),
        "word_starts": pa.ListArray.from_arrays(starts, bits),
        "next_sentence_label": _arrow(rows.next_sentence_label),
    }
    if rows.masks is not None:
        starts = _arrow(rows.masks.starts)
        columns["masked_lm_positions"] = pa.ListArray.from_arrays(starts, _arrow(rows.masks.positions))
        columns["masked_lm_inputs"] = pa.ListArray.from_arrays(starts, _arrow(rows.masks.inputs))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
