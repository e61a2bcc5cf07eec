"""The dataset stage: tokenise each corpus shard once, make the pairs of each shard and pass, write the samples.

Both steps are maps of remembered parts, so a killed run redoes one shard, and other lengths or seeds reuse the tokens.
The samples stand in the documents' order; training shuffles them by a function of (seed, epoch).
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import DatasetConfig, bound
from pipeline.dataset.example import Example
from pipeline.dataset.masking import MASKERS, Masking
from pipeline.dataset.pairs import Documents, SpecialTokens, document_pairs
from pipeline.dataset.tokens import load_shard, tokenise_shard
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.progress import progress, track
from pipeline.store import Artifact, Draft, Part, PartDraft, Recipe, Store
from pipeline.vocabulary.encoder import token_type
from pipeline.vocabulary.layout import CONTINUES, SPECIALS
from pipeline.vocabulary.tokenizer import load_tokenizer

SCHEMA = 2
SPLITS = ("train", "heldout")
ROWS_AT_ONCE = 4_096
DECIDES_PAIRS = ("max_seq_length", "short_seq_prob", "random_next_share", "seed")
"""What of the config a shard's pairs depend on; masks, passes and the size of files are none of it."""
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class PairsOf:
    """One unit of work: a corpus shard in one pass over its split."""

    split: str
    shard: int
    pass_: int


def build_dataset(
    config: DatasetConfig,
    corpus: Artifact,
    vocabulary: Artifact,
    *,
    store: Store,
    map: Map = map,
    force: bool = False,
) -> Artifact:
    """Make the samples of both splits. Raises InputError where a split has fewer than two documents with text."""
    bound(config.masker, MASKERS, "masker")
    recipe = Recipe("dataset", config, SCHEMA, parents=(corpus, vocabulary))
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    shards = {split: store.manifest(corpus).matching(f"{split}/") for split in SPLITS}
    flat = [entry for split in SPLITS for entry in shards[split]]
    tokenised = iter(map(partial(tokenise_shard, vocabulary=vocabulary, store=store), flat))
    tokens = {split: [next(tokenised) for _ in shards[split]] for split in SPLITS}
    for split in SPLITS:
        _check_split(split, tokens[split], corpus)
    units = [
        PairsOf(split, shard, pass_)
        for split in SPLITS
        for pass_ in range(config.dupe_factor if split == "train" else 1)
        for shard in range(len(shards[split]))
    ]
    make = partial(make_pairs, tokens=tokens, vocabulary=vocabulary, config=config, store=store)
    parts = dict(zip(units, map(make, units), strict=True))
    with store.draft(recipe, force=force) as draft:
        rows = {
            split: _write_split(
                draft, split, [part for unit, part in parts.items() if unit.split == split], config, store
            )
            for split in SPLITS
        }
        _check_rows(rows, corpus)
        made = draft.commit(totals=_totals(rows, parts, tokens, special_tokens(vocabulary, store), config))
    log.info("made %s: %s samples to train on, %s held out", made, *(f"{rows[split]:,}" for split in SPLITS))
    return made


def special_tokens(vocabulary: Artifact, store: Store) -> SpecialTokens:
    """What pairs and masks need to know of the vocabulary."""
    ids: dict[str, int] = load_tokenizer(store, vocabulary).get_vocab()
    undrawable = sorted(number for token, number in ids.items() if token in SPECIALS or token.startswith("[unused"))
    continuing = frozenset(number for token, number in ids.items() if token.startswith(CONTINUES))
    return SpecialTokens(ids["[CLS]"], ids["[SEP]"], ids["[MASK]"], tuple(undrawable), continuing, len(ids))


def make_pairs(
    unit: PairsOf, *, tokens: dict[str, list[Part]], vocabulary: Artifact, config: DatasetConfig, store: Store
) -> Part:
    """The samples of one shard and pass. Negatives come from every shard, so all their tokens make the identity."""
    identity = {
        "schema": SCHEMA,
        "tokens": [[entry.sha256 for entry in part.files] for part in tokens[unit.split]],
        "unit": [unit.split, unit.shard, unit.pass_],
        "vocabulary": vocabulary.digest,
        "config": config.model_dump(include=set(DECIDES_PAIRS)),
    }
    make = partial(_make_pairs, unit=unit, tokens=tokens[unit.split], vocabulary=vocabulary, config=config, store=store)
    return store.part("pairs", identity, make)


def _make_pairs(
    draft: PartDraft, *, unit: PairsOf, tokens: list[Part], vocabulary: Artifact, config: DatasetConfig, store: Store
) -> dict[str, Any]:
    specials = special_tokens(vocabulary, store)
    shards = [load_shard(part, store) for part in tokens]
    documents = Documents(shards, config, specials)
    first = documents.first_of(unit.shard)
    count: Counter[str] = Counter()

    def examples() -> Iterator[Example]:
        with progress(f"pairs of {unit.split} {unit.shard}, pass {unit.pass_}", len(shards[unit.shard])) as advance:
            for number in range(first, first + len(shards[unit.shard])):
                for example in document_pairs(number, documents, config, specials, pass_=unit.pass_):
                    count["random_next"] += example.is_random_next
                    count["own_tokens"] += example.own_tokens
                    count["tokens"] += len(example.input_ids)
                    yield example
                advance()

    rows = write_examples(draft.folder / "pairs.arrow", examples(), specials.size)
    draft.add("pairs.arrow", rows=rows)
    return dict(count)


def write_examples(path: Path, examples: Iterator[Example], vocabulary_size: int) -> int:
    """An Arrow IPC file of samples, in bounded memory; returns how many."""
    import pyarrow as pa

    token = pa.from_numpy_dtype(token_type(vocabulary_size))
    schema = pa.schema(
        {
            "input_ids": pa.list_(token),
            "segment_boundary": pa.uint16(),
            "word_starts": pa.list_(pa.uint16()),
            "is_random_next": pa.bool_(),
        }
    )
    rows, batch = 0, list[Example]()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:

        def flush() -> None:
            columns = [[getattr(example, name) for example in batch] for name in schema.names]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            batch.clear()

        for example in examples:
            batch.append(example)
            rows += 1
            if len(batch) == ROWS_AT_ONCE:
                flush()
        if batch:
            flush()
    return rows


def _write_split(draft: Draft, split: str, parts: list[Part], config: DatasetConfig, store: Store) -> int:
    """Rewrite the parts' rows as files of `rows_per_shard`, one record batch each, so that readers map them whole."""
    import pyarrow as pa

    table = pa.concat_tables(
        pa.ipc.open_file(pa.memory_map(str(store.blob(part.files[0])))).read_all() for part in parts
    )
    if config.masks == "stored":
        table = _with_masks(table, config, store, draft.recipe.parents[1])
    for number, start in enumerate(range(0, len(table), config.rows_per_shard)):
        rows = table.slice(start, config.rows_per_shard).combine_chunks()
        path = f"{split}/{number:05d}.arrow"
        (draft.folder / split).mkdir(exist_ok=True)
        with pa.OSFile(str(draft.folder / path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(rows)
        draft.add(path, rows=len(rows))
        (draft.folder / path).unlink()
    return len(table)


def _with_masks(table: Any, config: DatasetConfig, store: Store, vocabulary: Artifact) -> Any:
    """The table with each row's masks of epoch 0, as google-research/bert stores them."""
    import pyarrow as pa

    specials = special_tokens(vocabulary, store)
    masking = Masking(config, mask_id=specials.mask, undrawable=specials.undrawable, size=specials.size)
    positions, inputs = [], []
    columns = zip(table["input_ids"], table["word_starts"], table["segment_boundary"], strict=True)
    for index, (ids, starts, boundary) in enumerate(track(columns, "drawing masks", len(table))):
        masks = masking.draw(
            np.array(ids.as_py(), np.int64), np.array(starts.as_py(), np.int64), boundary.as_py(), epoch=0, index=index
        )
        positions.append(masks.positions)
        inputs.append(masks.inputs)
    table = table.append_column("masked_lm_positions", pa.array(positions, pa.list_(pa.uint16())))
    return table.append_column("masked_lm_inputs", pa.array(inputs, table.schema.field("input_ids").type))


def _check_split(split: str, tokens: list[Part], corpus: Artifact) -> None:
    documents = sum(part.record["documents_with_text"] for part in tokens)
    if documents < 2:
        raise InputError(
            f"The {split} part of {corpus} has {documents} document(s) with text: next-sentence pairs need text of "
            f"another document, so at least 2. Add documents, or change corpus.heldout_share."
        )


def _check_rows(rows: dict[str, int], corpus: Artifact) -> None:
    for split, count in rows.items():
        if count == 0:
            raise InputError(
                f"The {split} part of {corpus} makes no sample: no document in it has text for a pair. Add documents "
                f"of more than a word, or change corpus.heldout_share."
            )


def _totals(
    rows: dict[str, int],
    parts: dict[PairsOf, Part],
    tokens: dict[str, list[Part]],
    specials: SpecialTokens,
    config: DatasetConfig,
) -> dict[str, Any]:
    def total(split: str, key: str) -> int:
        return sum(part.record.get(key, 0) for unit, part in parts.items() if unit.split == split)

    source = {split: sum(part.record["tokens"] for part in tokens[split]) for split in SPLITS}
    passes = {"train": config.dupe_factor, "heldout": 1}
    return {
        "rows": rows,
        "tokens": {split: total(split, "tokens") for split in SPLITS},
        "source_tokens": source,
        "source_tokens_used": {
            split: round(total(split, "own_tokens") / max(1, source[split] * passes[split]), 4) for split in SPLITS
        },
        "random_next_share": {split: round(total(split, "random_next") / max(1, rows[split]), 4) for split in SPLITS},
        "fill": {
            split: round(total(split, "tokens") / max(1, rows[split] * config.max_seq_length), 4) for split in SPLITS
        },
        "max_seq_length": config.max_seq_length,
        "vocabulary_size": specials.size,
        "mask_id": specials.mask,
        "undrawable_ids": list(specials.undrawable),
    }
