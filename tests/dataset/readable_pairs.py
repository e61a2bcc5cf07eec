"""The pairs of a document in plain Python, from the same draws as the compiled ones, which are to be equal."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import DatasetConfig
from pipeline.dataset.donors import DRAWS_A_ROUND, GOOGLES_DRAWS, PARTS_DRAWN, ROUNDS, TRIES
from pipeline.dataset.pairs import SPECIALS
from pipeline.dataset.randomness import Draws, Purpose

Token = tuple[int, bool]
"""(id, whether a word starts there)"""
Text = list[Token]


@dataclass(frozen=True)
class Pair:
    """Two segments and their label; without a second one B is empty."""

    first: Text
    second: Text
    label: bool
    is_donated: bool


class Stream:
    """Draws, of which any may be asked for by its number from 1."""

    def __init__(self, *names: int) -> None:
        seed, purpose, *indices = names
        self._names = (seed, Purpose(purpose), *indices)
        self.at = 0

    def uniform(self) -> float:
        self.at += 1
        draws = Draws(*self._names)
        return [draws.uniform() for _ in range(self.at)][-1]

    def below(self, bound: int) -> int:
        return int(self.uniform() * bound)


def readable_pairs(number: int, documents: Sequence[Sequence[Text]], config: DatasetConfig, pass_: int) -> list[Pair]:
    """The pairs of document `number` of those of its split, each a list of sentences, none empty."""
    draws = Stream(config.seed, Purpose.PAIRS, pass_, number)
    longest = config.max_seq_length - SPECIALS[config.pairs]
    left = [list(sentence) for sentence in documents[number]]
    pairs, drawn, fixed = list[Pair](), 0, None
    while left:
        target = fixed or _target(longest, config, draws)
        if "one_target_a_document" in config.faults:
            fixed = target
        chunk, rest = _gathered(left, target, longest, config)
        if config.pairs == "none":
            pairs.append(Pair(_joined(chunk), [], False, False))
            drawn, left = drawn + 1, rest
            continue
        is_random = draws.uniform() < config.random_next_share
        is_half, room = False, longest
        if len(chunk) > 1:
            used = 1 + draws.below(len(chunk) - 1)
            first, second, room = _joined(chunk[:used]), _joined(chunk[used:]), target
        elif config.pairs == "nsp" and "lone_sentence_is_random" in config.faults:
            first, second, is_random = chunk[0], [], True
        else:
            first, second = _parted(chunk[0], draws.uniform())
            is_half = True
            if not second:
                left = rest
                continue
        if is_random and config.pairs == "nsp":
            stream = (config.seed, Purpose.DONORS, pass_, number, drawn)
            left = _after(left, len(first))  # what was to follow is put back
            second = _from_another(number, documents, max(1, room - len(first)), is_half, config, stream)
            pair = Pair(first, second, True, True)
        else:
            left = rest
            stream = (config.seed, Purpose.DONORS, pass_, number, drawn)
            pair = Pair(first, second, is_random, False)
        drawn += 1
        if _truncates(config):
            pair = _cut_down(pair, longest, stream)
        if pair.first and pair.second:
            pairs.append(pair)
    return pairs


def _truncates(config: DatasetConfig) -> bool:
    return "truncation" in config.faults and config.pairs != "none"


def _target(longest: int, config: DatasetConfig, draws: Stream) -> int:
    if draws.uniform() < config.short_seq_prob:
        return 2 + draws.below(longest - 1)
    return longest


def _part(sentence: Text, longest: int, config: DatasetConfig) -> tuple[Text, Text]:
    """The part that a sentence begins with, and the rest."""
    most = 10**9 if _truncates(config) else longest if config.pairs == "none" else max(1, longest // 2)
    if len(sentence) <= most:
        return sentence, []
    words = [place for place in range(1, most + 1) if sentence[place][1]]
    cut = words[-1] if words else most
    return sentence[:cut], sentence[cut:]


def _gathered(sentences: list[Text], target: int, longest: int, config: DatasetConfig) -> tuple[list[Text], list[Text]]:
    """Parts up to the target, and the sentences that are left."""
    chunk, left = list[Text](), list(sentences)
    while left:
        if _truncates(config) and chunk and len(_joined(chunk)) >= target:
            break
        part, rest = _part(left[0], longest, config)
        if not _truncates(config) and chunk and len(_joined([*chunk, part])) > target:
            break
        chunk.append(part)
        left[:1] = [rest] if rest else []
    return chunk, left


def _after(sentences: list[Text], tokens: int) -> list[Text]:
    """What is left of the sentences after so many tokens."""
    left = list(sentences)
    while tokens:
        here = min(tokens, len(left[0]))
        tokens -= here
        left[:1] = [left[0][here:]] if here < len(left[0]) else []
    return left


def _parted(text: Text, uniform: float) -> tuple[Text, Text]:
    words = [place for place in range(1, len(text)) if text[place][1]]
    place = words[int(uniform * len(words))] if words else len(text)
    return text[:place], text[place:]


def _from_another(
    number: int,
    documents: Sequence[Sequence[Text]],
    room: int,
    is_half: bool,
    config: DatasetConfig,
    stream: tuple[int, ...],
) -> Text:
    longest = config.max_seq_length - SPECIALS[config.pairs]
    for round_ in range(ROUNDS):
        draws = Stream(*stream)
        draws.at = round_ * DRAWS_A_ROUND
        donor = documents[_other(number, len(documents), draws.uniform(), config)]
        text: Text = []
        for _ in range(TRIES):
            sentence, part, cut = draws.below(len(donor)), draws.below(PARTS_DRAWN), draws.uniform()
            rest = donor[sentence]
            for _ in range(part):
                rest = _part(rest, longest, config)[1]
            if not rest:
                continue
            if is_half:
                found = _parted(_part(rest, longest, config)[0], cut)[1]
                if not found:
                    continue
            else:
                found = _joined(_gathered([rest, *donor[sentence + 1 :]], room, longest, config)[0])
            text = found
            if len(text) <= room or _truncates(config):
                return text
        if round_ == ROUNDS - 1 and text:
            words = [place for place in range(len(text) - room + 1) if text[place][1]]
            uniform = draws.uniform()
            start = words[int(uniform * len(words))] if words else len(text) - room
            return text[start : start + room]
    return []


def _other(number: int, documents: int, uniform: float, config: DatasetConfig) -> int:
    if "own_document_as_another" in config.faults:
        chance = (1 / documents) ** GOOGLES_DRAWS
        if uniform < chance:
            return number
        uniform = (uniform - chance) / (1 - chance)
    other = int(uniform * (documents - 1))
    return other + (other >= number)


def _cut_down(pair: Pair, longest: int, stream: tuple[int, ...]) -> Pair:
    first, second = list(pair.first), list(pair.second)
    draws = Stream(*stream)
    draws.at = ROUNDS * DRAWS_A_ROUND
    while len(first) + len(second) > longest:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if draws.uniform() < 0.5 else -1)
    return Pair(first, second, pair.label, pair.is_donated)


def _joined(chunk: Sequence[Text]) -> Text:
    return [token for sentence in chunk for token in sentence]
