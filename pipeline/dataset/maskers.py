"""The ways to choose which tokens are predicted; `masking.MASKERS` names them.

Each takes the tokens of many samples, how many of each sample's to choose, and each sample's key; and gives every
token's unit (masking.py). A sample never has more than its count, and less only where no word that is left fits in:
over random words of two pieces on average, none of a million tokens' predictions were short at 128 tokens a sample, 1
in 2,000 at 32, 1 in 50 at 16. Runs are cut by what is in their way and by the count, as in SpanBERT: of its 3.8 words
on average 3.0 are left at 128 tokens, 3.4 at 512; of 1.64 of an n-gram 1.53 and 1.58.
"""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field

from pipeline.dataset.randomness import key_of, uniform_of
from pipeline.dataset.words import Tokens, words_of

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Units = npt.NDArray[np.int32]
ORDER, LENGTHS = 3, 4
"""Streams of a sample that maskers draw from."""


def mask_tokens(tokens: Tokens, counts: Numbers, keys: Keys) -> Units:
    """Each token alone (Devlin et al. 2019)."""
    return _tokens(tokens.input_ids, tokens.starts, tokens.maskable, counts, keys)  # type: ignore[no-any-return]


def mask_whole_words(tokens: Tokens, counts: Numbers, keys: Keys) -> Units:
    """All pieces of a word or none; a word over what is left of the count is passed over (bert, May 2019)."""
    return _runs(*words_of(tokens), len(tokens.input_ids), counts, keys, np.ones(1), False)  # type: ignore[no-any-return]


def mask_ngrams(
    tokens: Tokens, counts: Numbers, keys: Keys, *, max_words: Annotated[int, Field(ge=1, le=64)] = 3
) -> Units:
    """Runs of 1 to `max_words` whole words, a run of n as likely as 1 / n (Lan et al. 2020)."""
    return _runs(*words_of(tokens), len(tokens.input_ids), counts, keys, _law(1 / np.arange(1, max_words + 1)), False)  # type: ignore[no-any-return]


def mask_spans(
    tokens: Tokens,
    counts: Numbers,
    keys: Keys,
    *,
    p: Annotated[float, Field(gt=0, le=1)] = 0.2,
    max_words: Annotated[int, Field(ge=1, le=64)] = 10,
) -> Units:
    """Runs of whole words whose lengths are geometric, up to `max_words`; a run has one fate (Joshi et al. 2020)."""
    law = _law(p * (1 - p) ** np.arange(max_words))
    return _runs(*words_of(tokens), len(tokens.input_ids), counts, keys, law, True)  # type: ignore[no-any-return]


def _law(weights: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Cumulated probabilities in the proportion of the weights."""
    return np.cumsum(weights / weights.sum())


@njit(cache=True, nogil=True)
def _tokens(
    input_ids: npt.NDArray[Any], starts: Numbers, maskable: npt.NDArray[np.bool_], counts: Numbers, keys: Keys
) -> Units:
    units = np.zeros(len(input_ids), np.int32)
    places = np.empty(len(input_ids) + 1, np.int32)
    for sample in range(len(counts)):
        held = 0
        for place in range(starts[sample], starts[sample + 1]):
            places[held] = place  # and kept where it may be masked
            held += maskable[input_ids[place]]
        order = key_of(keys[sample], ORDER)
        for turn in range(min(held, counts[sample])):
            other = turn + int(uniform_of(order, turn + 1) * (held - turn))
            units[places[other]] = turn + 1
            places[other] = places[turn]
    return units


@njit(cache=True, nogil=True)
def _runs(
    firsts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
    of_samples: Numbers,
    tokens: int,
    counts: Numbers,
    keys: Keys,
    law: npt.NDArray[np.float64],
    is_one_unit: bool,
) -> Units:
    """Runs of words, from each word in a drawn order until there are enough tokens.

    A run's length in words is drawn by the cumulated `law`; it ends sooner before a word that is chosen already, before
    a token that stands in no word, and before what is over the count.
    """
    units = np.zeros(tokens, np.int32)
    order = np.empty(len(firsts), np.int64)
    for sample in range(len(counts)):
        first, last = of_samples[sample], of_samples[sample + 1]
        for word in range(first, last):
            order[word] = word
        left, unit = counts[sample], 0
        turns, lengths = key_of(keys[sample], ORDER), key_of(keys[sample], LENGTHS)
        for turn in range(first, last):
            if left == 0:
                break
            number = turn - first + 1
            other = turn + int(uniform_of(turns, number) * (last - turn))
            order[turn], order[other] = order[other], order[turn]
            word, length = order[turn], 1
            if len(law) > 1:
                uniform = uniform_of(lengths, number)
                while length < len(law) and uniform >= law[length - 1]:
                    length += 1
            unit += is_one_unit
            for run in range(word, min(word + length, last)):
                size = ends[run] - firsts[run]
                if units[firsts[run]] or size > left or (run > word and firsts[run] != ends[run - 1]):
                    break
                for place in range(firsts[run], ends[run]):
                    unit += not is_one_unit
                    units[place] = unit
                left -= size
    return units
