"""One split of a dataset, read from the store's files as they are needed.

Lengths are known from a file of their own. The samples' files come through the store's cache, so that of a remote
dataset only those that are in use, and the next ones, are on this machine; a thread fetches ahead of need. Memory holds
maps of the files of two windows (order.py), whatever the dataset's size.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig
from pipeline.dataset.gathering import COLUMNS, addresses_of
from pipeline.dataset.masking import Masking
from pipeline.dataset.order import WINDOW
from pipeline.dataset.origins import Origins
from pipeline.dataset.randomness import Purpose, stream_key
from pipeline.dataset.rows import Rows, read_rows
from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store import Artifact, Store

OPENINGS = 5
"""Times that a file is fetched to be opened."""
Opened = tuple[Rows, list[int]]
"""A file's rows, and the addresses of its columns."""


@dataclass(frozen=True)
class Located:
    """Where rows lie in memory, for as long as this is held."""

    addresses: npt.NDArray[np.int64]
    """[files that are held, COLUMNS] (gathering.py)."""
    files: npt.NDArray[np.int64]
    """Of each row, which of these."""
    places: npt.NDArray[np.int64]
    """Of each row in its file."""
    held: list[Rows]
    """What keeps the files mapped."""


class Samples:
    """The samples of a split, by their rows."""

    def __init__(
        self, store: Store, dataset: Artifact, split: str = "train", *, masked_lm_prob: float | None = None
    ) -> None:
        """With `masked_lm_prob` masks are drawn at that rate, whatever the dataset's or what is stored."""
        manifest = store.manifest(dataset)
        totals = manifest.totals
        self.dataset = dataset
        self.config = DatasetConfig.model_validate(manifest.config)
        if masked_lm_prob is not None:
            drawn = {"masked_lm_prob": masked_lm_prob, "max_predictions_per_seq": None, "masks": "each_epoch"}
            self.config = self.config.model_copy(update=drawn)
        self.masking = Masking(
            self.config, mask_id=totals["mask_id"], undrawable=totals["undrawable_ids"], size=totals["vocabulary_size"]
        )
        self.cuts = np.uint64(stream_key(self.config.seed, Purpose.CUTS))
        """The key of the streams by which samples are cut short."""
        vocabulary = manifest.parent("vocabulary")
        self.vocabulary = vocabulary.digest if vocabulary else ""
        """What tells whether ids of two datasets mean the same."""
        self.origins = Origins(totals.get("sources", {}).get(split, ()))
        self._store = store
        self._files = manifest.matching(f"{split}/")
        self.sizes = np.array([entry.rows or 0 for entry in self._files], np.int64)
        """Rows of each file."""
        self._ends = np.cumsum(self.sizes)
        path = store.file(dataset, f"{split}.lengths.npy")
        self.lengths: npt.NDArray[np.uint16] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        """Of all samples in tokens, mapped."""
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._ahead: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.lengths)

    def most_predictions(self, whole: npt.NDArray[np.int64], cut: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many tokens of samples [S] are predicted at most, that have `whole` tokens and are `cut` to so many.

        Masks that are stored may all lie in what is kept.
        """
        if self.config.masks == "stored":
            return np.minimum(self.masking.counts(whole), cut - 2)
        return self.masking.counts(cut)

    def located(self, rows: npt.NDArray[np.int64]) -> Located:
        """Where the rows lie; their files are opened."""
        files = np.searchsorted(self._ends, rows, side="right")
        places = rows - (self._ends - self.sizes)[files]
        names, files = np.unique(files, return_inverse=True)
        held = [self._opened(file) for file in names.tolist()]
        addresses = np.array([addresses for _, addresses in held], np.int64).reshape(-1, COLUMNS)
        return Located(addresses, files, places, [each for each, _ in held])

    def _opened(self, file: int) -> Opened:
        """A file's rows; who has them holds its bytes, though it may be closed here meanwhile."""
        with self._lock:
            if file in self._open:
                self._open.move_to_end(file)
                return self._open[file]
        rows = self._read(file)
        opened = rows, addresses_of(rows)
        with self._lock:
            self._open[file] = opened
            while len(self._open) > 2 * WINDOW:
                self._open.popitem(last=False)
        return opened

    def _read(self, file: int) -> Rows:
        """A file's rows, mapped; others that are fetched meanwhile may push it out of the cache before it is."""
        for _ in range(OPENINGS):
            with suppress(FileNotFoundError):
                return read_rows(self._fetched(file))
        raise StoreError(
            f"The cache gave up {self._files[file].path} of {self.dataset} {OPENINGS} times before it could be opened: "
            f"it is too small. Raise BERTMILL_CACHE_GB."
        )

    def _fetched(self, file: int) -> Path:
        """A file on this machine; CorruptArtifact where its bytes are missing or not the dataset's."""
        try:
            return self._store.blob(self._files[file])
        except CorruptArtifact as error:
            raise CorruptArtifact(
                f"{error} It is of {self.dataset}; `bertmill dataset PRESET --force` makes that again."
            ) from None

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
                self._fetched(file)
