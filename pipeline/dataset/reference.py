"""The samples of google-research/bert's create_pretraining_data.py, one for one: the oracle of pairs and masks.

Everything comes from one `random.Random` stream, so what is drawn, and when, is part of the result: a pair, then its
masks, then the next pair. What that script does badly is kept too: in a corpus of one document a random B is the
document's own text, a word in `whole_word` may reach across [SEP], and a random word may be a special token.
Plain Python, all in memory, as fast as the original (about 2 M tokens/s): for proof and small corpora. The dataset
stage corrects the faults and is compiled.
Source: google-research/bert at eedf571, its last commit, under Python 3, whose `round` takes halves to the even number.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.errors import ConfigError, InputError
from pipeline.vocabulary.layout import CONTINUES

CLS, SEP, MASK = "[CLS]", "[SEP]", "[MASK]"
SPECIALS_IN_A_PAIR = 3
SHORTEST_TARGET = 2
"""Tokens: one for each segment."""
DONOR_DRAWS = 10
"""How often another document is looked for, before the own one has to do."""

Sentence = Sequence[str]
Document = Sequence[Sentence]


@dataclass(frozen=True)
class ReferenceSample:
    """Legend: L tokens with the specials, M predictions."""

    tokens: list[str]
    """[L], what the model sees."""
    segment_ids: list[int]
    """[L], 0 for [CLS] A [SEP] and 1 for B [SEP]."""
    masked_lm_positions: list[int]
    """[M], ascending."""
    masked_lm_labels: list[str]
    """[M], what stood there."""
    is_random_next: bool


def reference_samples(
    documents: Sequence[Document],
    vocabulary: Sequence[str],
    *,
    max_seq_length: int = 128,
    short_seq_prob: float = 0.1,
    masked_lm_prob: float = 0.15,
    max_predictions_per_seq: int = 20,
    dupe_factor: int = 10,
    do_whole_word_mask: bool = False,
    seed: int = 12_345,
) -> list[ReferenceSample]:
    """All samples of the documents (sentences of token strings), in the script's order. The defaults are the script's.

    Random words are drawn from `vocabulary` in its order. Sentences without a token, and documents without a sentence,
    are left out. Raises ConfigError for a length that holds no pair, InputError for a vocabulary without entries.
    """
    room = max_seq_length - SPECIALS_IN_A_PAIR
    if room < SHORTEST_TARGET:
        raise ConfigError(
            f"max_seq_length is {max_seq_length}, too short for a pair: [CLS], two [SEP] and a token on either side "
            f"take {SHORTEST_TARGET + SPECIALS_IN_A_PAIR}. Give at least that."
        )
    if not vocabulary:
        raise InputError("The vocabulary has no entry to draw random words from; give its tokens in the order of ids.")
    rng = random.Random(seed)  # noqa: S311 - the stream to be equal to
    texts = [sentences for document in documents if (sentences := [sentence for sentence in document if sentence])]
    rng.shuffle(texts)
    samples = [
        _masked(pair, vocabulary, masked_lm_prob, max_predictions_per_seq, do_whole_word_mask, rng)
        for _ in range(dupe_factor)
        for number in range(len(texts))
        for pair in _pairs(number, texts, room, short_seq_prob, rng)
    ]
    rng.shuffle(samples)
    return samples


def _pairs(
    number: int, documents: Sequence[Document], room: int, short_seq_prob: float, rng: random.Random
) -> Iterator[ReferenceSample]:
    """The pairs of one pass over a document, not yet masked; a B that is not its A's next is put back."""
    document = documents[number]
    target = rng.randint(SHORTEST_TARGET, room) if rng.random() < short_seq_prob else room
    start = 0
    while start < len(document):
        chunk = _gathered(document, start, target)
        a_end = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
        a = _joined(chunk[:a_end])
        is_random_next = len(chunk) == 1 or rng.random() < 0.5
        b = _random_b(number, documents, target - len(a), rng) if is_random_next else _joined(chunk[a_end:])
        start += a_end if is_random_next else len(chunk)
        _truncate(a, b, room, rng)
        yield _pair(a, b, is_random_next)


def _gathered(document: Document, start: int, target: int) -> list[Sentence]:
    """Whole sentences from `start` on until they hold `target` tokens or the document ends; at least one."""
    sentences, held = list[Sentence](), 0
    for place in range(start, len(document)):
        sentences.append(document[place])
        held += len(document[place])
        if held >= target:
            break
    return sentences


def _random_b(number: int, documents: Sequence[Document], target: int, rng: random.Random) -> deque[str]:
    """Text of another document than `number` where ten draws find one; at least a sentence, however low the target."""
    donor = number
    for _ in range(DONOR_DRAWS):
        donor = rng.randint(0, len(documents) - 1)
        if donor != number:
            break
    start = rng.randint(0, len(documents[donor]) - 1)
    return _joined(_gathered(documents[donor], start, target))


def _joined(sentences: Sequence[Sentence]) -> deque[str]:
    return deque(token for sentence in sentences for token in sentence)


def _truncate(a: deque[str], b: deque[str], room: int, rng: random.Random) -> None:
    """Take tokens from the longer one, B when they are equal, from the front or the back, until both have room."""
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        if rng.random() < 0.5:
            longer.popleft()
        else:
            longer.pop()


def _pair(a: Sequence[str], b: Sequence[str], is_random_next: bool) -> ReferenceSample:
    tokens = [CLS, *a, SEP, *b, SEP]
    segment_ids = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    return ReferenceSample(tokens, segment_ids, [], [], is_random_next)


def _masked(
    pair: ReferenceSample,
    vocabulary: Sequence[str],
    masked_lm_prob: float,
    max_predictions_per_seq: int,
    do_whole_word_mask: bool,
    rng: random.Random,
) -> ReferenceSample:
    """The sample with its predictions drawn: a candidate that is over what is left of their number is passed over."""
    candidates = _words(pair.tokens) if do_whole_word_mask else [[place] for place in _maskable(pair.tokens)]
    rng.shuffle(candidates)
    count = min(max_predictions_per_seq, max(1, round(len(pair.tokens) * masked_lm_prob)))
    tokens, positions = list(pair.tokens), list[int]()
    for candidate in candidates:
        if len(positions) + len(candidate) > count:
            continue
        for place in candidate:
            tokens[place] = _shown(pair.tokens[place], vocabulary, rng)
        positions += candidate
    positions.sort()
    labels = [pair.tokens[place] for place in positions]
    return replace(pair, tokens=tokens, masked_lm_positions=positions, masked_lm_labels=labels)


def _maskable(tokens: Sequence[str]) -> Iterator[int]:
    return (place for place, token in enumerate(tokens) if token not in (CLS, SEP))


def _words(tokens: Sequence[str]) -> list[list[int]]:
    """The places of each word's pieces. A piece that begins B, after a cut, counts to the last word of A."""
    words = list[list[int]]()
    for place in _maskable(tokens):
        if words and tokens[place].startswith(CONTINUES):
            words[-1].append(place)
        else:
            words.append([place])
    return words


def _shown(token: str, vocabulary: Sequence[str], rng: random.Random) -> str:
    """What the model sees in place of a token that it predicts: [MASK] 80 %, the token 10 %, any entry 10 %."""
    if rng.random() < 0.8:
        return MASK
    if rng.random() < 0.5:
        return token
    return vocabulary[rng.randint(0, len(vocabulary) - 1)]
