"""The stage's parity mode: the samples of google-research/bert's script, in its order, as rows.

All documents of a split are one unit of work, in memory and in plain Python (reference.py): for comparisons.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.dataset.entries import Entries
from pipeline.dataset.reference import ReferenceSample, reference_samples
from pipeline.dataset.rows import Rows, StoredMasks
from pipeline.dataset.sampling import SCHEMA, SamplesWriter, Source, Unit
from pipeline.dataset.tokens import load_shard
from pipeline.errors import ConfigError
from pipeline.store import Artifact, Part, PartDraft, Store
from pipeline.vocabulary.encoder import token_type

MOST_TOKENS = 50_000_000


def make_google_samples(
    split: str, *, sources: Mapping[str, Source], vocabulary: Artifact, config: DatasetConfig, store: Store
) -> Part:
    """The samples of a split. Raises ConfigError for more text than fits into memory as Python's strings."""
    source = sources[split]
    tokens = sum(part.record["tokens"] for part in source.tokens)
    if tokens > MOST_TOKENS:
        raise ConfigError(
            f'dataset.rules = "google" keeps all text in memory, which is for {MOST_TOKENS:,} tokens at most; the '
            f'{split} part has {tokens:,}. Take rules = "bertmill", or a smaller corpus.'
        )
    passes = config.dupe_factor if split == "train" else 1
    identity = {
        "schema": SCHEMA,
        "split": split,
        "vocabulary": vocabulary.digest,
        "config": config.model_copy(update={"name": "", "dupe_factor": passes}).identity(),
        **source.identity,
    }
    make = partial(_make, split=split, source=source, vocabulary=vocabulary, config=config, passes=passes, store=store)
    return store.part("pairs", identity, make)


def _make(
    draft: PartDraft,
    *,
    split: str,
    source: Source,
    vocabulary: Artifact,
    config: DatasetConfig,
    passes: int,
    store: Store,
) -> dict[str, Any]:
    entries = Entries.load(store, vocabulary)
    samples = reference_samples(
        _documents(source, entries.tokens, store),
        entries.tokens,
        max_seq_length=config.max_seq_length,
        short_seq_prob=config.short_seq_prob,
        masked_lm_prob=config.masked_lm_prob,
        max_predictions_per_seq=config.predictions_per_seq,
        dupe_factor=passes,
        do_whole_word_mask=config.masker.name == "whole_word",
        seed=config.seed,
    )
    writer = SamplesWriter(draft, config, entries, Unit(split, 0, 0))
    for first in range(0, len(samples), config.rows_per_shard):
        writer.add(google_rows(samples[first : first + config.rows_per_shard], entries))
    documents = sum(part.record["documents_with_text"] for part in source.tokens)
    source_tokens = sum(part.record["tokens"] for part in source.tokens)
    return writer.finish() | {"own_documents": documents, "source_tokens": source_tokens * passes}


def _documents(source: Source, words: list[str], store: Store) -> list[list[list[str]]]:
    """The documents' sentences as token strings."""
    found = []
    for shard in (load_shard(part, store) for part in source.tokens):
        tokens = [words[each] for each in shard.tokens.tolist()]
        bounds, documents = shard.sentences.tolist(), shard.documents.tolist()
        sentences = [tokens[bounds[at] : bounds[at + 1]] for at in range(len(bounds) - 1)]
        found += [sentences[documents[at] : documents[at + 1]] for at in range(len(documents) - 1)]
    return found


def google_rows(samples: list[ReferenceSample], entries: Entries) -> Rows:
    """The samples as they are stored, unmasked, with their masks beside them."""
    kind = token_type(entries.size)
    ids, lengths, positions, inputs, counts = list[int](), [0], list[int](), list[int](), [0]
    for sample in samples:
        tokens = [entries.ids[token] for token in sample.tokens]
        inputs += [tokens[place] for place in sample.masked_lm_positions]
        for place, label in zip(sample.masked_lm_positions, sample.masked_lm_labels, strict=True):
            tokens[place] = entries.ids[label]
        ids += tokens
        positions += sample.masked_lm_positions
        lengths.append(len(tokens))
        counts.append(len(sample.masked_lm_positions))
    flat = np.array(ids, kind)
    is_special = (flat == entries.cls) | (flat == entries.sep)
    follows_special = np.concatenate(([True], is_special[:-1]))
    begins = ~is_special & (~entries.continues[flat] | follows_special)
    return Rows(
        flat,
        np.packbits(begins, bitorder="little"),
        np.cumsum(lengths).astype(np.int32),
        np.array([len(sample.segment_ids) - sum(sample.segment_ids) for sample in samples], np.uint16),
        np.array([sample.is_random_next for sample in samples], np.uint8),
        StoredMasks(np.cumsum(counts).astype(np.int32), np.array(positions, np.uint16), np.array(inputs, kind)),
    )
