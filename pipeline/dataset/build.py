"""The dataset stage: tokenise each corpus shard once, make the samples of each shard and pass, publish their files.

Both steps are maps of remembered parts, so a killed run redoes one shard, other lengths or seeds re-use the tokens, and
a changed corpus only makes the pairs anew. The files of a part are the dataset's: nothing is copied at the end.
Samples stand in the order of their documents; training shuffles them by a function of (seed, epoch).
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipeline.config import DatasetConfig, bound
from pipeline.dataset.card import card_of, check_gates
from pipeline.dataset.entries import Entries
from pipeline.dataset.google import make_google_samples
from pipeline.dataset.masking import MASKERS
from pipeline.dataset.origins import runs_of
from pipeline.dataset.sampling import SCHEMA, Source, Unit, make_samples
from pipeline.dataset.since import earlier_corpus, select_since
from pipeline.dataset.tokens import tokenise_shard
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.store import Artifact, Draft, Part, Recipe, Store

SPLITS = ("train", "heldout")
log = logging.getLogger("bertmill")


def dataset_recipe(config: DatasetConfig, corpus: Artifact, vocabulary: Artifact, store: Store) -> Recipe:
    """All that decides the dataset; raises as `check_dataset`."""
    return Recipe("dataset", config, SCHEMA, parents=(corpus, vocabulary), extra=check_dataset(config, store))


def check_dataset(config: DatasetConfig, store: Store) -> tuple[tuple[str, str], ...]:
    """What decides the dataset beside its config and parents.

    Raises ConfigError for a masker or segmenter that isn't, InputError for a dictionary that can't be used,
    UnknownReference where `since` names nothing.
    """
    bound(config.masker, MASKERS, "masker")
    extra = dict[str, str]()
    if config.segmenter is not None:
        from pipeline.dataset.text.segmentation import segmenter_identity

        extra |= segmenter_identity(config.segmenter)
    if config.since is not None:
        extra["since"] = earlier_corpus(config.since, store).digest
    return tuple(sorted(extra.items()))


def _with_since_resolved(config: DatasetConfig, store: Store) -> DatasetConfig:
    """`since` as a version, so that an alias that moves meanwhile means the same all along."""
    if config.since is None:
        return config
    return config.model_copy(update={"since": str(store.resolve(config.since))})


def build_dataset(
    config: DatasetConfig,
    corpus: Artifact,
    vocabulary: Artifact,
    *,
    store: Store,
    map: Map = map,
    force: bool = False,
) -> Artifact:
    """Make the samples of both splits.

    Raises InputError where a split has too few documents with text, makes no sample, or doesn't pass the gates.
    """
    config = _with_since_resolved(config, store)
    recipe = dataset_recipe(config, corpus, vocabulary, store)
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    sources = _sources(config, corpus, vocabulary, store, map)
    samples = _samples(config, sources, vocabulary, store, map)
    entries = Entries.load(store, vocabulary)
    cards = {split: card_of(sources[split].tokens, samples[split], config, entries, store) for split in SPLITS}
    for split, card in cards.items():
        _check_samples(split, card, corpus)
    check_gates(cards, config, corpus)
    with store.draft(recipe, force=force) as draft:
        for split in SPLITS:
            _publish(draft, split, samples[split], store)
        rows = {split: cards[split]["samples"] for split in SPLITS}
        made = draft.commit(
            totals={
                "rows": rows,
                "tokens": {split: cards[split]["tokens"] for split in SPLITS},
                "max_seq_length": config.max_seq_length,
                "sources": {split: runs_of(sources[split].tokens, samples[split]) for split in SPLITS},
                **entries.record(),
            },
            metrics=cards,
        )
    log.info("made %s: %s samples to train on, %s held out", made, *(f"{rows[split]:,}" for split in SPLITS))
    return made


def _sources(
    config: DatasetConfig, corpus: Artifact, vocabulary: Artifact, store: Store, map: Map
) -> dict[str, Source]:
    """Each split as tokens, with the choice of documents that have samples."""
    shards = {split: store.manifest(corpus).matching(f"{split}/") for split in SPLITS}
    tokenise = partial(tokenise_shard, vocabulary=vocabulary, segmenter=config.segmenter, store=store)
    made = iter(map(tokenise, [entry for split in SPLITS for entry in shards[split]]))
    tokens = {split: [next(made) for _ in shards[split]] for split in SPLITS}
    for split in SPLITS:
        _check_documents(split, tokens[split], config, corpus)
    selection = None
    if config.since is not None:
        earlier = earlier_corpus(config.since, store)
        selection = select_since(
            earlier,
            shards["train"],
            tokens["train"],
            share=config.replay_share,
            seed=config.seed,
            store=store,
            map=map,
        )
    return {"train": Source(tokens["train"], selection), "heldout": Source(tokens["heldout"])}


def _samples(
    config: DatasetConfig, sources: Mapping[str, Source], vocabulary: Artifact, store: Store, map: Map
) -> dict[str, list[Part]]:
    """The parts of each split, in the order in which its files stand."""
    if config.rules == "google":
        make = partial(make_google_samples, sources=sources, vocabulary=vocabulary, config=config, store=store)
        return {split: [part] for split, part in zip(SPLITS, map(make, SPLITS), strict=True)}
    units = [
        Unit(split, shard, pass_)
        for split in SPLITS
        for pass_ in range(config.dupe_factor if split == "train" else 1)
        for shard in range(len(sources[split].tokens))
    ]
    parts = map(partial(make_samples, sources=sources, vocabulary=vocabulary, config=config, store=store), units)
    made: dict[str, list[Part]] = {split: [] for split in SPLITS}
    for unit, part in zip(units, parts, strict=True):
        made[unit.split].append(part)
    return made


def _publish(draft: Draft, split: str, samples: Sequence[Part], store: Store) -> None:
    """The samples' files as they are, and all lengths in one, so that they are known without reading rows."""
    number, rows = 0, sum(part.record["rows"] for part in samples)
    name = f"{split}.lengths.npy"
    with (draft.folder / name).open("wb") as lengths:
        header = {"descr": "<u2", "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(lengths, header)
        for part in samples:
            for entry in part.files:
                if entry.path.endswith(".arrow"):
                    draft.include(entry, f"{split}/{number:05d}.arrow")
                    number += 1
                elif entry.path == "lengths.npy":
                    lengths.write(np.load(store.blob(entry), mmap_mode="r", allow_pickle=False).tobytes())
    draft.add(name)


def _check_documents(split: str, tokens: Sequence[Part], config: DatasetConfig, corpus: Artifact) -> None:
    documents = sum(part.record["documents_with_text"] for part in tokens)
    if config.pairs == "nsp" and documents < 2 and "own_document_as_another" not in config.faults:
        raise InputError(
            f"The {split} part of {corpus} has {documents} document(s) with text: next-sentence pairs need text of "
            f"another document, so at least 2. Add documents, or change corpus.heldout_share, or set dataset.pairs to "
            f'"sop" or "none", which need one.'
        )


def _check_samples(split: str, card: Mapping[str, Any], corpus: Artifact) -> None:
    if card["samples"] == 0:
        raise InputError(
            f"The {split} part of {corpus} makes no sample: no document in it has text for one. Add documents of more "
            f"than a word, or change corpus.heldout_share."
        )
