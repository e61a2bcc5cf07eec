"""What samples and masks need to know of a vocabulary's entries.

Legend: V entries of the vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.store import Artifact, Store
from pipeline.vocabulary.layout import CONTINUES, SPECIALS, is_unused
from pipeline.vocabulary.tokenizer import load_ids


@dataclass(frozen=True)
class Entries:
    """Ids, and what they stand for."""

    ids: Mapping[str, int]
    """Every entry, a piece that continues a word with its `##`."""

    @classmethod
    def load(cls, store: Store, vocabulary: Artifact) -> "Entries":
        """The entries of a vocabulary of the store; the last ones are remembered."""
        digest, entries = _last[0] if _last else ("", None)
        if entries is None or digest != vocabulary.digest:
            entries = cls(load_ids(store, vocabulary))
            _last[:] = [(vocabulary.digest, entries)]
        return entries

    @property
    def size(self) -> int:
        """V."""
        return len(self.ids)

    @property
    def cls(self) -> int:
        return self.ids["[CLS]"]

    @property
    def sep(self) -> int:
        return self.ids["[SEP]"]

    @property
    def mask(self) -> int:
        return self.ids["[MASK]"]

    @property
    def unknown(self) -> int:
        return self.ids["[UNK]"]

    @cached_property
    def tokens(self) -> list[str]:
        """[V], the entries by their ids."""
        return sorted(self.ids, key=self.ids.__getitem__)

    @cached_property
    def undrawable(self) -> tuple[int, ...]:
        """Ids that are never masked, nor stand in for a masked token: the specials and [unused]."""
        return tuple(sorted(number for token, number in self.ids.items() if token in SPECIALS or is_unused(token)))

    @cached_property
    def continues(self) -> npt.NDArray[np.bool_]:
        """[V], whether the entry continues a word."""
        found = np.zeros(self.size, bool)
        found[[number for token, number in self.ids.items() if token.startswith(CONTINUES)]] = True
        return found

    def record(self) -> dict[str, Any]:
        """As a dataset's manifest keeps it, so that its readers need no vocabulary."""
        return {"vocabulary_size": self.size, "mask_id": self.mask, "undrawable_ids": list(self.undrawable)}


_last: list[tuple[str, Entries]] = []
