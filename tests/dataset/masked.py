"""Samples for masks, made from the lengths of their words, and what is drawn in them.

Legend: N times that a sample is drawn, L its tokens.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.masking import Masking

CLS, SEP, MASK = 2, 3, 4
UNDRAWABLE = (0, 1, 2, 3, 4, 7, 11)
"""The specials, and two that stand for [unused]."""
SIZE = 40
DRAWABLE = sorted({*range(SIZE)} - {*UNDRAWABLE})


def config(masker: str = "token", **more: object) -> DatasetConfig:
    """Keywords of the masker stand beside the table's."""
    keywords = {key: more.pop(key) for key in ("p", "max_words") if key in more}
    return DatasetConfig.model_validate({"name": "small", "masker": {"name": masker, **keywords}, **more})


def masking(masker: str = "token", **more: object) -> Masking:
    return Masking(config(masker, **more), mask_id=MASK, undrawable=UNDRAWABLE, size=SIZE)


class Drawn(NamedTuple):
    """A sample under N indices."""

    is_chosen: npt.NDArray[np.bool_]
    """[N, L]"""
    inputs: npt.NDArray[np.int64]
    """[N, L], what the model sees."""


@dataclass(frozen=True)
class Sample:
    """[CLS] A [SEP] B [SEP] by the lengths of the words."""

    first: list[int]
    second: list[int]

    @property
    def boundary(self) -> int:
        return 2 + sum(self.first)

    @property
    def length(self) -> int:
        """L."""
        return 3 + sum(self.first) + sum(self.second)

    @property
    def words(self) -> list[range]:
        """The places of each word."""
        lengths = np.array([*self.first, *self.second])
        starts = 1 + np.cumsum(lengths) - lengths + (np.arange(len(lengths)) >= len(self.first))
        return [range(start, start + length) for start, length in zip(starts.tolist(), lengths.tolist())]

    @property
    def input_ids(self) -> npt.NDArray[np.int64]:
        """[L], drawable ids, all of them in turn."""
        ids = np.array(DRAWABLE)[np.arange(self.length) % len(DRAWABLE)]
        ids[[0, self.boundary - 1, self.length - 1]] = CLS, SEP, SEP
        return ids

    @property
    def begins_word(self) -> npt.NDArray[np.uint8]:
        """[L]"""
        begins = np.zeros(self.length, np.uint8)
        begins[[word.start for word in self.words]] = 1
        return begins

    def drawn(self, masker: str = "token", count: int = 1, epoch: int = 0, **more: object) -> Drawn:
        """Under the indices up to `count`."""
        ids, begins = np.tile(self.input_ids, count), np.tile(self.begins_word, count)
        starts, indices = self.length * np.arange(count + 1), np.arange(count)
        masks = masking(masker, **more).draw(ids, begins, starts, np.full(count, epoch), indices)
        assert (np.diff(masks.positions) > 0).all()
        assert (np.searchsorted(masks.positions, starts) == masks.starts).all()
        is_chosen = np.zeros(len(ids), bool)
        is_chosen[masks.positions] = True
        ids[masks.positions] = masks.inputs
        return Drawn(is_chosen.reshape(count, -1), ids.reshape(count, -1))


def of_length(length: int) -> Sample:
    """A sample of that many tokens, each a word."""
    half = (length - 3) // 2
    return Sample([1] * half, [1] * (length - 3 - half))


PIECES = Sample([1, 2, 1, 3, 1, 1, 4, 2, 1], [2, 1, 1, 3, 1, 5, 1, 1, 2])
"""Words of one to five pieces; the last of A is one piece, the first of B two."""


class Flat(NamedTuple):
    """Many samples, one after the other."""

    input_ids: npt.NDArray[np.int64]
    begins_word: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.starts) - 1


def flat(samples: list[list[tuple[int, bool]]]) -> Flat:
    """Of samples given as (id, whether a word starts there) of each token."""
    tokens = [token for sample in samples for token in sample]
    ids, begins = np.array([number for number, _ in tokens], np.int64), np.array([b for _, b in tokens], np.uint8)
    return Flat(ids, begins, np.cumsum([0, *map(len, samples)]))


def ten_million_tokens() -> Flat:
    """Samples of 20 to 128 tokens, of which every second begins a word."""
    random = np.random.default_rng(11)
    starts = np.cumsum([0, *random.integers(20, 129, 10_000_000 // 74)])
    ids = random.choice(DRAWABLE, starts[-1])
    ids[starts[:-1]], ids[starts[1:] - 1], ids[(starts[:-1] + starts[1:]) // 2] = CLS, SEP, SEP
    return Flat(ids, random.integers(0, 2, len(ids), np.uint8), starts)
