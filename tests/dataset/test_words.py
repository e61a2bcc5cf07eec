"""Words are runs of tokens that may be masked, and none reaches over one that may not, or out of its sample."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset.words import Tokens, Words, words_of
from tests.dataset.masked import CLS, SEP, SIZE, UNDRAWABLE, flat
from tests.dataset.readable_masks import readable_words

TOKENS = st.tuples(st.one_of(st.integers(0, SIZE - 1), st.sampled_from(UNDRAWABLE)), st.booleans())
SAMPLES = st.lists(st.lists(TOKENS, max_size=30), max_size=6)


def words(samples: list[list[tuple[int, bool]]]) -> Words:
    maskable = np.ones(SIZE, bool)
    maskable[list(UNDRAWABLE)] = False
    of = flat(samples)
    return words_of(Tokens(of.input_ids, of.begins_word, of.starts, maskable))


def test_words_worked_by_hand() -> None:
    """A piece after a special begins a word of its own, and so does one at the start of a sample."""
    sample = [(CLS, False), (20, True), (21, False), (22, True), (SEP, False), (23, False), (24, False), (SEP, False)]
    found = words([sample, [(25, False)], [(CLS, True)]])
    assert found.starts.tolist() == [1, 3, 5, 8]
    assert found.ends.tolist() == [3, 4, 7, 9]
    assert found.of_samples.tolist() == [0, 3, 4, 4]


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_words_are_the_readable_ones_of_each_sample(samples: list[list[tuple[int, bool]]]) -> None:
    found = words(samples)
    assert len(found.starts) == len(found.ends) == found.of_samples[-1]
    first = 0
    for at, sample in enumerate(samples):
        expected = readable_words([token for token, _ in sample], [begins for _, begins in sample], UNDRAWABLE)
        held = slice(found.of_samples[at], found.of_samples[at + 1])
        bounds = zip((found.starts[held] - first).tolist(), (found.ends[held] - first).tolist())
        assert [list(range(start, end)) for start, end in bounds] == expected
        first += len(sample)
