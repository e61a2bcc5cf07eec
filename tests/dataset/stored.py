"""Datasets put together by hand and really stored: files of any sizes, of samples of any lengths."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.rows import Rows, StoredMasks, write_rows
from pipeline.store import Artifact, Recipe, Store

CLS, SEP, MASK = 2, 3, 4
FIRST_WORD = 5
SIZE = 1_000
"""Entries of the vocabulary."""


def rows_of(lengths: Sequence[int] | npt.NDArray[np.integer], *, pairs: str = "nsp", size: int = SIZE) -> Rows:
    """Samples of those lengths; B begins in the middle, every third is of another document, words have two tokens."""
    draw = np.random.default_rng(len(lengths))
    ids, begins, boundaries = [], [], []
    for length in map(int, lengths):
        boundary = length // 2 + 1 if pairs != "none" else length
        sample, starts = draw.integers(FIRST_WORD, size, length), np.arange(length) % 2
        special = sorted({0, boundary - 1, length - 1})
        sample[special], starts[special] = [CLS, *[SEP] * (len(special) - 1)], 0
        ids.append(sample)
        begins.append(starts)
        boundaries.append(boundary)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    labels = (np.arange(len(lengths)) % 3 == 0) & (pairs != "none")
    return Rows(
        np.concatenate([np.empty(0, np.int64), *ids]).astype(np.uint32 if size > 1 << 16 else np.uint16),
        np.packbits(np.concatenate([np.empty(0, np.int64), *begins]).astype(np.uint8), bitorder="little"),
        starts,
        np.array(boundaries, np.uint16),
        labels.astype(np.uint8),
    )


def with_masks(rows: Rows, every: int) -> Rows:
    """Every so-manieth token of each sample is masked, but specials."""
    positions, inputs, starts = [], [], [0]
    for (first, end), boundary in zip(pairwise(rows.starts.tolist()), rows.segment_boundary.tolist(), strict=True):
        own = [at for at in range(1, end - first - 1, every) if at != boundary - 1]
        positions += own
        inputs += [MASK] * len(own)
        starts.append(len(positions))
    masks = StoredMasks(np.array(starts, np.int32), np.array(positions, np.uint16), np.array(inputs, np.uint16))
    return rows.masked(masks)


def stored(
    store: Store, files: Sequence[Rows], *, vocabulary: Artifact | None = None, size: int = SIZE, **config: object
) -> Artifact:
    """A dataset of those files."""
    lengths = np.concatenate([rows.lengths for rows in files]).astype(np.uint16)
    with store.draft(_recipe(config, vocabulary)) as draft:
        (draft.folder / "train").mkdir()
        for number, rows in enumerate(files):
            path = f"train/{number:05d}.arrow"
            write_rows(draft.folder / path, rows)
            draft.add(path, rows=len(rows))
        np.save(draft.folder / "train.lengths.npy", lengths)
        draft.add("train.lengths.npy")
        return draft.commit(totals=_totals(size))


def stored_lengths(store: Store, lengths: npt.NDArray[np.integer], **config: object) -> Artifact:
    """A dataset whose samples can't be read, but how long they are: for what needs no more."""
    with store.draft(_recipe(config, None)) as draft:
        (draft.folder / "train").mkdir()
        (draft.folder / "train/00000.arrow").write_bytes(b"")
        draft.add("train/00000.arrow", rows=len(lengths))
        np.save(draft.folder / "train.lengths.npy", lengths.astype(np.uint16))
        draft.add("train.lengths.npy")
        return draft.commit(totals=_totals(SIZE))


def _recipe(config: dict[str, object], vocabulary: Artifact | None) -> Recipe:
    table = DatasetConfig.model_validate({"name": "by-hand"} | config)
    return Recipe("dataset", table, 1, parents=(vocabulary,) if vocabulary else ())


def _totals(size: int) -> dict[str, object]:
    return {"vocabulary_size": size, "mask_id": MASK, "undrawable_ids": list(range(FIRST_WORD))}
