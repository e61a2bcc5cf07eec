"""Documents that hold a piece of a test set's texts, so that a test score tells of what was learned elsewhere.

As for GPT-3 (Brown et al. 2020, appendix C): n-grams of 13 words, case and punctuation aside; a text of 8 to 12 words
is one n-gram whole, and a shorter one is passed over, since it stands in innocent documents too. Where words aren't
parted by blanks, two characters count for a word, as a Chinese word mostly has: n-grams of 26, texts from 16.
An n-gram of more than 10 of the test texts is their form (a question's wording, a notice), and isn't looked for; GPT-3
passed over those of more than 10 training documents, which would make a document's fate hang on other documents. There
a window around the piece was cut out; here the document goes.

A scan asks, for each 8 words, two bits of a Bloom filter, and looks further only where both are set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.corpus.copies.folding import Offsets, codes_of, folding
from pipeline.corpus.copies.hashing import Keys, gram_keys, has_gram

WORDS, LEAST_WORDS = 13, 8
CHARACTERS, LEAST_CHARACTERS = 26, 16
COMMON = 10
"""Test texts that may share an n-gram before it counts as their form."""


@dataclass(frozen=True, eq=False)
class NGrams:
    """What must not stand in a document. Legend: N n-grams, sorted by key."""

    grams: Keys
    """[N], a key for each."""
    anchors: Keys
    """[N], a key for the first LEAST_WORDS words of each."""
    lengths: Offsets
    """[N], words in each."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """The n-grams of a test set's texts: its questions, answers, passages, each a text."""
        codes, starts = codes_of(texts)
        sizes, least = np.array([WORDS, CHARACTERS]), np.array([LEAST_WORDS, LEAST_CHARACTERS])
        keys, anchors, lengths, owners = gram_keys(codes, starts, *folding(), sizes, least, LEAST_WORDS)
        once = np.unique(np.stack([keys, owners.astype(np.uint64)], axis=1), axis=0)[:, 0]  # in a text
        grams, in_texts = np.unique(once, return_counts=True)
        first = np.unique(keys, return_index=True)[1]
        kept = in_texts <= COMMON
        return cls(grams[kept], anchors[first][kept], lengths[first][kept])

    @classmethod
    def read(cls, path: Path) -> Self:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            return cls(*(table[name].to_numpy() for name in ("gram", "anchor", "length")))

    def write(self, path: Path) -> None:
        """An Arrow IPC file of (gram: uint64, anchor: uint64, length: int64), sorted by gram."""
        import pyarrow as pa

        table = pa.table({"gram": self.grams, "anchor": self.anchors, "length": self.lengths})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def __len__(self) -> int:
        return len(self.grams)


class Scan:
    """A scan for n-grams, ready: `contaminated(text)`. Takes about 12 bytes for each of them."""

    def __init__(self, ngrams: NGrams) -> None:
        bits = min(32, max(6, (16 * len(ngrams)).bit_length()))
        self._shift = 64 - bits
        self._anchors = np.zeros(1 << (bits - 6), np.uint64)
        for keys in (ngrams.anchors, ngrams.anchors << np.uint64(32)):
            places = keys >> np.uint64(self._shift)
            np.bitwise_or.at(self._anchors, places >> np.uint64(6), np.uint64(1) << (places & np.uint64(63)))
        self._sizes = np.unique(ngrams.lengths)
        self._grams = ngrams.grams.copy()

    def contaminated(self, text: str) -> bool:
        """Whether the text has one of the n-grams."""
        codes = np.frombuffer(f"{text}\n".encode("utf-32-le", "surrogatepass"), np.uint32)
        found = has_gram(codes, *folding(), LEAST_WORDS, self._anchors, self._shift, self._sizes, self._grams)
        return bool(found)


@lru_cache(maxsize=4)
def scan_of(path: Path) -> Scan:
    """The scan for the n-grams that `NGrams.write` has put into a file, made once a process.

    The path must change when the file does, as that of a blob of the store.
    """
    return Scan(NGrams.read(path))
