"""What a dataset holds, in numbers, and the gates that it must pass before it is published: the dataset card.

Everything is counted while samples are made, but for the masks, of which the first samples' are drawn.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.dataset.entries import Entries
from pipeline.dataset.masking import Masking
from pipeline.dataset.rows import read_rows
from pipeline.dataset.sketch import Sketch
from pipeline.errors import InputError
from pipeline.store import Artifact, Part, Store

CHANCE = 4
"""Standard deviations that a share may differ by chance."""
MASKED = 4_096
"""Samples whose masks are drawn."""


def card_of(
    tokens: Sequence[Part], samples: Sequence[Part], config: DatasetConfig, entries: Entries, store: Store
) -> dict[str, Any]:
    """The card of a split: what its corpus shards hold, and what samples were made of them."""

    def total(parts: Sequence[Part], key: str) -> int:
        return sum(part.record.get(key, 0) for part in parts)

    sketch, sources, lengths = Sketch.empty(), Counter[str](), Counter[int]()
    for part in samples:
        (entry,) = (entry for entry in part.files if entry.path == "duplicates.npy")
        sketch = sketch.merged(Sketch.of_array(np.load(store.blob(entry), allow_pickle=False)))
        lengths.update(dict(enumerate(part.record["lengths"])))
    for part in tokens:
        for name, tally in part.record["sources"].items():
            sources[name] += tally["tokens"]
    rows, held = total(samples, "rows"), total(samples, "tokens")
    source, corpus = total(samples, "source_tokens"), total(tokens, "tokens")
    card = {
        "samples": rows,
        "tokens": held,
        "documents": total(tokens, "documents"),
        "documents_with_text": total(tokens, "documents_with_text"),
        "sentences": total(tokens, "sentences"),
        "source_tokens": corpus,
        "unknown_share": total(tokens, "unknown") / max(1, corpus),
        "fill": held / max(1, rows * config.max_seq_length),
        "fill_by_length": {
            f"up to {(number + 1) * config.max_seq_length // len(lengths)}": lengths[number] / max(1, rows)
            for number in sorted(lengths)
        },
        "masks_per_sample": _masks_per_sample(samples, config, entries, store),
        "duplicate_share": sketch.duplicate_share,
        "sources": {name: count / max(1, corpus) for name, count in sorted(sources.items())},
    }
    if config.pairs != "none":
        card["random_next_share"] = total(samples, "random_next") / max(1, rows)
    if config.rules != "google":
        card["used_share"] = total(samples, "own_tokens") / max(1, source)
        card["chosen_tokens"] = source
    if config.segmenter is not None:
        card["sentences_not_segmented"] = total(tokens, "sentences_not_segmented")
    return card


def _masks_per_sample(samples: Sequence[Part], config: DatasetConfig, entries: Entries, store: Store) -> float:
    """As they are stored, or as the first samples' are drawn in epoch 0."""
    if config.masks == "stored":
        count = sum(part.record["rows"] for part in samples)
        return float(sum(part.record["predictions"] for part in samples) / max(1, count))
    files = [entry for part in samples for entry in part.files if entry.path.endswith(".arrow")]
    if not files:
        return 0.0
    rows = read_rows(store.blob(files[0]))
    rows = rows.cut(0, min(MASKED, len(rows)))
    masking = Masking.of(config, entries)
    indices = np.arange(len(rows))
    begins = rows.begins_word(0, len(rows))
    masks = masking.draw(rows.input_ids, begins, rows.starts.astype(np.int64), np.zeros_like(indices), indices)
    return len(masks.positions) / len(rows)


def check_gates(cards: Mapping[str, dict[str, Any]], config: DatasetConfig, corpus: Artifact) -> None:
    """InputError for each gate that a split doesn't pass, with what it has and what it may."""
    failed = [f"of the {split} part, {problem}" for split, card in cards.items() for problem in _crossed(card, config)]
    if failed:
        raise InputError(
            f"The dataset of {corpus} doesn't pass its gates: {'; '.join(failed)}. Nothing is published. Mend the "
            f"cause, or, where it is meant, widen the gate in [dataset.gates]."
        )


def _crossed(card: dict[str, Any], config: DatasetConfig) -> list[str]:
    """What a split doesn't hold to. A fault that was asked for is no reason."""
    gates, crossed = config.gates, list[str]()
    if card["unknown_share"] > gates.max_unknown_share:
        crossed.append(
            f"{card['unknown_share']:.2%} of the tokens are unknown to the vocabulary (max_unknown_share is "
            f"{gates.max_unknown_share:.2%})"
        )
    if config.rules == "google":
        return crossed  # its passes aren't told apart, and it counts no tokens of its documents
    if card["duplicate_share"] > gates.max_duplicate_share:
        crossed.append(
            f"{card['duplicate_share']:.2%} of the samples are equal to an earlier one of their pass "
            f"(max_duplicate_share is {gates.max_duplicate_share:.2%})"
        )
    if "truncation" not in config.faults and card["used_share"] < gates.min_used_share:
        crossed.append(
            f"only {card['used_share']:.2%} of the tokens stand in a sample of their own document (min_used_share is "
            f"{gates.min_used_share:.2%})"
        )
    if config.pairs != "none" and "lone_sentence_is_random" not in config.faults:
        wanted = config.random_next_share
        tolerance = gates.random_next_tolerance + CHANCE * math.sqrt(wanted * (1 - wanted) / card["samples"])
        if abs(card["random_next_share"] - wanted) > tolerance:
            crossed.append(
                f"{card['random_next_share']:.2%} of the second segments don't follow, where {wanted:.2%} were asked "
                f"for (random_next_tolerance is {gates.random_next_tolerance:.2%})"
            )
    return crossed
