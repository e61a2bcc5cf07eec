"""One split of a dataset, read from the store's files as they are needed.

Lengths are known from a file of their own. The samples' files come through the store's cache, so that of a remote
dataset only those that are in use, and the next ones, are on this machine; a thread fetches ahead of need. Memory holds
maps of the files of two windows (order.py), whatever the dataset's size.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.masking import Masking
from pipeline.dataset.order import WINDOW
from pipeline.dataset.rows import Rows, read_rows
from pipeline.errors import StoreError
from pipeline.store import Artifact, Store


class Samples:
    """The samples of a split, by their rows."""

    def __init__(self, store: Store, dataset: Artifact, split: str = "train") -> None:
        manifest = store.manifest(dataset)
        totals = manifest.totals
        self.dataset = dataset
        self.config = DatasetConfig.model_validate(manifest.config)
        self.masking = Masking(
            self.config, mask_id=totals["mask_id"], undrawable=totals["undrawable_ids"], size=totals["vocabulary_size"]
        )
        vocabulary = manifest.parent("vocabulary")
        self.vocabulary = vocabulary.digest if vocabulary else ""
        """What tells whether ids of two datasets mean the same."""
        self._store = store
        self._files = manifest.matching(f"{split}/")
        self.sizes = [entry.rows or 0 for entry in self._files]
        """Rows of each file."""
        self._ends = np.cumsum(self.sizes)
        path = store.file(dataset, f"{split}.lengths.npy")
        self.lengths: npt.NDArray[np.uint16] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        """Of all samples in tokens, mapped."""
        self._open: OrderedDict[int, Rows] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    def by_file(self, rows: npt.NDArray[np.int64]) -> list[tuple[Rows, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """For each file that holds some of the rows: its samples, which of `rows` they are, and their places in it."""
        files = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(files, kind="stable")
        cuts = np.flatnonzero(np.diff(files[order])) + 1
        found = []
        for chosen in np.split(order, cuts):
            if len(chosen):
                file = int(files[chosen[0]])
                found.append((self._rows(file), chosen, rows[chosen] - (self._ends[file] - self.sizes[file])))
        return found

    def _rows(self, file: int) -> Rows:
        with self._lock:
            if file in self._open:
                self._open.move_to_end(file)
                return self._open[file]
        rows = read_rows(self._store.blob(self._files[file]))
        with self._lock:
            self._open[file] = rows
            while len(self._open) > 2 * WINDOW:
                self._open.popitem(last=False)
        return rows

    def fetch_ahead(self, files: Sequence[int]) -> None:
        """Bring files to this machine in a thread of their own, unless that was asked for just before."""
        with self._lock:
            if files == self._ahead:
                return
            self._ahead = files
        threading.Thread(target=self._fetch, args=(files,), name="fetch-ahead", daemon=True).start()

    def _fetch(self, files: Sequence[int]) -> None:
        for file in files:
            if self._ahead is not files:
                return
            with suppress(StoreError):  # it is raised where the file is needed
                self._store.blob(self._files[file])
