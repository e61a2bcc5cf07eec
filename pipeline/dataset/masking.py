"""Which tokens the model predicts, and what it sees in their place: a function of (seed, epoch, index).

google-research/bert's rule: `min(max_predictions_per_seq, max(1, round(length * masked_lm_prob)))` tokens of a sample,
the length counted with the specials and halves rounded to even; of these 80 % become [MASK], 10 % a random word, 10 %
stay. Unlike there, no special or [unused] entry is masked or stands in as a random word, and no word reaches across
[SEP]. One function serves masks drawn in each epoch and masks stored with the samples, for many samples at once: each
draws from its own stream, so that it doesn't matter which others it is with. Costs 2 to 6 ns a token.

Legend: S samples, T tokens of them all, M predictions of them all, V entries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.config import DatasetConfig, bound
from pipeline.dataset.entries import Entries
from pipeline.dataset.maskers import mask_ngrams, mask_spans, mask_tokens, mask_whole_words
from pipeline.dataset.randomness import Purpose, key_of, stream_key, stream_keys, uniform_of
from pipeline.dataset.words import Tokens

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Masker = Callable[[Tokens, Numbers, Keys], npt.NDArray[np.int32]]
"""(samples, how many tokens of each [S], each one's key [S]) -> units [T].

A token's unit is 0 where it isn't chosen; tokens of a sample that have the same unit have the same fate: [MASK], a
random word each, or as they are.
"""
MASKERS: Mapping[str, Callable[..., npt.NDArray[np.int32]]] = {
    "token": mask_tokens,
    "whole_word": mask_whole_words,
    "ngram": mask_ngrams,
    "span": mask_spans,
}
FATE, WORD = 1, 2
"""Streams of a sample beside the masker's own."""


@dataclass(frozen=True)
class Masks:
    """Predictions of samples, one sample's after the other's. The label is what stood at the position."""

    starts: Numbers
    """[S + 1], into the two below."""
    positions: Numbers
    """[M], into the T tokens, ascending."""
    inputs: Numbers
    """[M], what the model sees there."""


class Masking:
    """A dataset's masking, ready to draw."""

    def __init__(self, config: DatasetConfig, *, mask_id: int, undrawable: Sequence[int], size: int) -> None:
        self._config = config
        self._masker: Masker = bound(config.masker, MASKERS, "masker")
        self._mask_id = mask_id
        self._maskable = np.ones(size, np.bool_)
        self._maskable[list(undrawable)] = False
        every = "special_random_words" in config.faults
        self._drawable = np.arange(size) if every else np.flatnonzero(self._maskable)
        self._key = np.uint64(stream_key(config.seed, Purpose.MASKS))

    @classmethod
    def of(cls, config: DatasetConfig, entries: Entries) -> "Masking":
        """The masking of a dataset whose vocabulary is at hand."""
        return cls(config, mask_id=entries.mask, undrawable=entries.undrawable, size=entries.size)

    def counts(self, lengths: Numbers) -> Numbers:
        """How many tokens of samples of these lengths [S] are predicted at most, [S]."""
        counts: Numbers = np.rint(lengths * self._config.masked_lm_prob).astype(np.int64)
        return np.minimum(np.maximum(counts, 1), self._config.predictions_per_seq)

    def draw(
        self,
        input_ids: npt.NDArray[Any],
        begins_word: npt.NDArray[np.uint8],
        starts: Numbers,
        epochs: Numbers,
        indices: Numbers,
    ) -> Masks:
        """The masks of samples (epoch, index), [S] each.

        `input_ids` [T], `begins_word` [T] whether a word starts at the token, `starts` [S + 1] where samples begin.
        """
        keys = stream_keys(self._key, epochs, indices)
        tokens = Tokens(input_ids, begins_word, starts, self._maskable)
        units = self._masker(tokens, self.counts(np.diff(starts)), keys)
        shares = self._config.mask_share, self._config.random_share
        return Masks(*_masked(input_ids, starts, units, keys, *shares, self._mask_id, self._drawable))


@njit(cache=True, nogil=True)
def _masked(
    input_ids: npt.NDArray[Any],
    starts: Numbers,
    units: npt.NDArray[np.int32],
    keys: Keys,
    mask_share: float,
    random_share: float,
    mask_id: int,
    drawable: Numbers,
) -> tuple[Numbers, Numbers, Numbers]:
    """The chosen tokens, and what each unit's fate makes of them."""
    count = np.count_nonzero(units)
    of_samples = np.zeros(len(starts), np.int64)
    positions, inputs = np.empty(count + 1, np.int64), np.empty(count, np.int64)
    used = 0
    for sample in range(len(keys)):
        first = used
        for place in range(starts[sample], starts[sample + 1]):
            positions[used] = place  # and kept where it is chosen, without a branch that no processor foresees
            used += units[place] != 0
        fates, words = key_of(keys[sample], FATE), key_of(keys[sample], WORD)
        for at in range(first, used):
            place = positions[at]
            fate = uniform_of(fates, units[place])
            word = drawable[int(uniform_of(words, place - starts[sample] + 1) * len(drawable))]
            kept = word if fate < mask_share + random_share else np.int64(input_ids[place])
            inputs[at] = mask_id if fate < mask_share else kept
        of_samples[sample + 1] = used
    return of_samples, positions[:count], inputs
