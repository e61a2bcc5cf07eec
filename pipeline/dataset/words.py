"""The words of samples, as masks see them.

Legend: S samples, T tokens of them all, W words of them all, V entries.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit


class Words(NamedTuple):
    """Runs of tokens that may be masked; specials and [unused] stand in none."""

    starts: npt.NDArray[np.int64]
    """[W], each word's first token, ascending."""
    ends: npt.NDArray[np.int64]
    """[W], the token after its last."""
    of_samples: npt.NDArray[np.int64]
    """[S + 1], where each sample's words begin."""
    tokens: int
    """T."""


def words_of(
    input_ids: npt.NDArray[Any],
    begins_word: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    maskable: npt.NDArray[np.bool_],
) -> Words:
    """The words of samples, of which `starts` [S + 1] tells where each begins in `input_ids` [T].

    A word begins where `begins_word` [T] says so, or after a token that may not be masked, by `maskable` [V]; it ends
    before the next, or before such a token.
    """
    firsts, ends, of_samples = _words_of(input_ids, begins_word, starts, maskable)
    return Words(firsts, ends, of_samples, len(input_ids))


@njit(cache=True, nogil=True)
def _words_of(
    input_ids: npt.NDArray[Any],
    begins_word: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    maskable: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    firsts, ends = np.empty(len(input_ids), np.int64), np.empty(len(input_ids), np.int64)
    of_samples = np.zeros(len(starts), np.int64)
    used = 0
    for sample in range(len(starts) - 1):
        is_inside = False
        for place in range(starts[sample], starts[sample + 1]):
            if not maskable[input_ids[place]]:
                is_inside = False
                continue
            if begins_word[place] or not is_inside:
                firsts[used] = place
                used += 1
                is_inside = True
            ends[used - 1] = place + 1
        of_samples[sample + 1] = used
    return firsts[:used], ends[:used], of_samples
