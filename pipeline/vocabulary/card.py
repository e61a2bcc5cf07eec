"""How a vocabulary fits held-out text, from how often each word stands there: the vocabulary card.

All is worked out from counts, so a card costs one look at each distinct word, for this vocabulary and for each that it
is set beside. A reference that reads text otherwise (cased) has counts of its own; characters are counted in the text
itself, so that characters per token can be compared.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.store import Part, Store
from pipeline.vocabulary.counts import WordCounts, read_batches
from pipeline.vocabulary.existing import unreachable
from pipeline.vocabulary.layout import CONTINUES, is_unused
from pipeline.vocabulary.pieces import Pieces, cut, pieces_of
from pipeline.vocabulary.scripts import script_of
from pipeline.vocabulary.tokenizer import Form

EXAMPLES = 50
"""Words, and characters, that a card lists at most."""


def fit(entries: Sequence[str], form: Form, heldout: Part, store: Store) -> dict[str, Any]:
    """The numbers of a card: how `entries` fit held-out text, which was counted under `form`.

    `unknown_rate` is of tokens, `unknown_words` of words; `pieces_per_word` is the fertility; `scripts` has the same by
    the script of a word's first character.
    """
    table = pieces_of({entry: number for number, entry in enumerate(entries)})
    sums = Counter[tuple[str, str]]()
    for batch in read_batches(store.blob(heldout.files[0])):
        pieces, is_unknown = _cut(batch, table)
        scripts, which = _scripts(batch)
        for number, script in enumerate(scripts):
            counts = batch.counts * (which == number)
            sums[script, "words"] += int(counts.sum())
            sums[script, "pieces"] += int((counts * pieces).sum())
            sums[script, "unknown"] += int((counts * is_unknown).sum())
    total = {name: sum(sums[key] for key in sums if key[1] == name) for name in ("words", "pieces", "unknown")}
    long, kept = heldout.record["long"], heldout.record["kept"]
    words, tokens, unknown = total["words"] + long + kept, total["pieces"] + long + kept, total["unknown"] + long
    by_script = sorted({script for script, _ in sums}, key=lambda script: (-sums[script, "words"], script))
    return {
        "size": len(entries),
        "free_slots": sum(map(is_unused, entries)),
        "unreachable_entries": len(unreachable(entries, form)),
        "heldout_documents": heldout.record["documents"],
        "heldout_words": words,
        "heldout_tokens": tokens,
        "unknown_rate": unknown / max(1, tokens),
        "unknown_words": unknown / max(1, words),
        "pieces_per_word": tokens / max(1, words),
        "characters_per_token": heldout.record["characters"] / max(1, tokens),
        "scripts": {
            script: {
                "words": sums[script, "words"],
                "pieces_per_word": sums[script, "pieces"] / sums[script, "words"],
                "unknown_words": sums[script, "unknown"] / sums[script, "words"],
            }
            for script in by_script
        },
    }


def examples(
    entries: Sequence[str], heldout: Part, store: Store, among: WordCounts | None = None
) -> dict[str, list[dict[str, Any]]]:
    """What a card shows of the text: the most frequent words of several pieces, and characters that have no entry.

    Of the words, and of words with such characters, only those `among` others, where some are given: those that stand
    in enough groups.
    """
    table = pieces_of({entry: number for number, entry in enumerate(entries)})
    known = {each.removeprefix(CONTINUES) for each in entries}
    split, dropped = Counter[tuple[str, str]](), Counter[str]()
    for batch in read_batches(store.blob(heldout.files[0])):
        pieces, is_unknown = _cut(batch, table)
        shown = np.ones(len(batch), np.bool_)
        if among is not None:
            shown = np.fromiter((among.has(batch.word(row)) for row in range(len(batch))), np.bool_, len(batch))
        rows = np.flatnonzero(shown & (pieces > 1))
        for row in rows[np.argsort(-batch.counts[rows], kind="stable")][:EXAMPLES].tolist():
            ids, _ = cut(batch.text, batch.starts[row : row + 2], table)
            split[batch.word(row).decode(), " ".join(entries[each] for each in ids)] = int(batch.counts[row])
        for row in np.flatnonzero(shown & is_unknown).tolist():
            for character in {*batch.word(row).decode()} - known:
                dropped[character] += int(batch.counts[row])
        split = Counter(dict(_most(split)))
    return {
        "split_words": [{"word": word, "pieces": pieces, "count": count} for (word, pieces), count in _most(split)],
        "dropped_characters": [{"character": each, "count": count} for each, count in _most(dropped)],
    }


def _most(counts: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]


def _cut(batch: WordCounts, table: Pieces) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Of each word into how many pieces it goes, and whether it is unknown."""
    ids, starts = cut(batch.text, batch.starts, table)
    return np.diff(starts), ids[starts[:-1]] == table.unknown


def _scripts(batch: WordCounts) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Scripts, and which of them each word begins with."""
    of_words = [script_of(word[0]) for word in batch.words()]
    scripts = sorted(set(of_words))
    places = {script: number for number, script in enumerate(scripts)}
    return scripts, np.array([places[script] for script in of_words], np.int64)
