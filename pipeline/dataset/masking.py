"""Which tokens the model predicts, and what it sees in their place: a pure function of (seed, epoch, index).

google-research/bert's rule: `min(max_predictions_per_seq, max(1, round(length · masked_lm_prob)))` of the tokens, the
length counted with the specials and halves rounded to even; of these 80 % become [MASK], 10 % a random word, 10 % stay,
decided for each token alone. Unlike there, a random word is never a special, and no word reaches across [SEP].
One function serves masks drawn in each epoch and masks stored with the samples. Costs about 30 µs a sample.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import DatasetConfig, bound
from pipeline.dataset.randomness import Draws, Purpose

Ids = npt.NDArray[np.int64]
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1


@dataclass(frozen=True)
class Masks:
    """Legend: M predictions. The label is what stood at the position."""

    positions: Ids
    """[M], ascending."""
    inputs: Ids
    """[M], what the model sees there."""


Masker = Callable[[Ids, Ids, int, Draws], Ids]
"""(word starts, word ends, how many tokens, draws) → positions."""


def mask_tokens(starts: Ids, ends: Ids, count: int, draws: Draws) -> Ids:
    """Each token alone."""
    candidates = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    order = np.argsort(draws.uniforms(len(candidates)), kind="stable")
    return candidates[order[:count]]


def mask_whole_words(starts: Ids, ends: Ids, count: int, draws: Draws) -> Ids:
    """All pieces of a word or none; a word over what is left of the count is passed over (bert, May 2019)."""
    chosen: list[int] = []
    for word in np.argsort(draws.uniforms(len(starts)), kind="stable"):
        if len(chosen) + ends[word] - starts[word] <= count:
            chosen.extend(range(starts[word], ends[word]))
        if len(chosen) == count:
            break
    return np.array(chosen, np.int64)


MASKERS: Mapping[str, Masker] = {"token": mask_tokens, "whole_word": mask_whole_words}


class Masking:
    """A dataset's masking, ready to draw."""

    def __init__(self, config: DatasetConfig, *, mask_id: int, undrawable: tuple[int, ...], size: int) -> None:
        self._config = config
        self._masker = bound(config.masker, MASKERS, "masker")
        self._mask_id = mask_id
        self._drawable = np.setdiff1d(np.arange(size), undrawable)

    def draw(self, input_ids: Ids, starts: Ids, boundary: int, *, epoch: int, index: int) -> Masks:
        """The masks of sample `index` in `epoch`: `input_ids` [L] int64, `starts` [W] int64, where words begin."""
        draws = Draws(self._config.seed, Purpose.MASKS, epoch, index)
        length = len(input_ids)
        ends = np.append(starts[1:], length - 1)
        ends[starts < boundary - 1] = np.minimum(ends[starts < boundary - 1], boundary - 1)  # [SEP] ends a word
        count = min(self._config.predictions_per_seq, max(1, round(length * self._config.masked_lm_prob)))
        positions = np.sort(self._masker(starts, ends, count, draws))
        fate = draws.uniforms(len(positions))
        words = self._drawable[(draws.uniforms(len(positions)) * len(self._drawable)).astype(np.int64)]
        inputs = np.where(fate < MASK_SHARE, self._mask_id, input_ids[positions])
        inputs = np.where((fate >= MASK_SHARE) & (fate < MASK_SHARE + RANDOM_SHARE), words, inputs)
        return Masks(positions, inputs)
