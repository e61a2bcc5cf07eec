"""The words of samples, as masks see them.

Legend: S samples, T tokens of them all, W words of them all, V entries.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit


class Tokens(NamedTuple):
    """The tokens of samples, as maskers take them."""

    input_ids: npt.NDArray[Any]
    """[T]"""
    begins_word: npt.NDArray[np.uint8]
    """[T], whether a word starts there."""
    starts: npt.NDArray[np.int64]
    """[S + 1], where each sample begins."""
    maskable: npt.NDArray[np.bool_]
    """[V], whether the entry may be masked: no special, no [unused]."""


class Words(NamedTuple):
    """Runs of tokens that may be masked."""

    starts: npt.NDArray[np.int32]
    """[W], each word's first token, ascending."""
    ends: npt.NDArray[np.int32]
    """[W], the token after its last."""
    of_samples: npt.NDArray[np.int64]
    """[S + 1], where each sample's words begin."""


def words_of(tokens: Tokens) -> Words:
    """The words of samples.

    A word begins where the tokens say so, or after one that may not be masked; it ends before the next, or before one
    that may not be.
    """
    return Words(*_words_of(*tokens))


@njit(cache=True, nogil=True)
def _words_of(
    input_ids: npt.NDArray[Any],
    begins_word: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    maskable: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """What is written stays where the count moves on: a branch that no processor foresees costs more."""
    firsts, ends = np.empty(len(input_ids) + 1, np.int32), np.empty(len(input_ids) + 1, np.int32)
    of_samples = np.zeros(len(starts), np.int64)
    used = 0
    for sample in range(len(starts) - 1):
        is_outside = True
        for place in range(starts[sample], starts[sample + 1]):
            is_inside = maskable[input_ids[place]]
            firsts[used] = place
            used += is_inside & ((begins_word[place] != 0) | is_outside)
            ends[used - 1 if is_inside else used] = place + 1
            is_outside = not is_inside
        of_samples[sample + 1] = used
    return firsts[:used], ends[:used], of_samples
