"""The corpus stage: text in, clean documents out, parted into train and held-out.

Three maps of remembered parts. Each batch of input files is read and cleaned alone; the keys of all documents are
merged, a range of keys at a time, which finds what stands twice; then each batch loses what that found and what the
mixture of sources leaves out. So one more file costs one batch, the merge, and the batches that lose something new. The
split is by a hash of the group, which is stable as the corpus grows. Costs a read and a write of the text, and another
write of the shards in which something is found twice.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import CorpusConfig, bound
from pipeline.corpus.card import GROUPS, Card, count_groups, dropped, funnel
from pipeline.corpus.cleaning import FILTERS, replacement_tokens
from pipeline.corpus.decontamination import NGrams
from pipeline.corpus.deduplication import Repeats, repeated
from pipeline.corpus.document import REPLACEMENTS
from pipeline.corpus.finishing import Unfinished, finish_batch
from pipeline.corpus.formats.places import LocalFile
from pipeline.corpus.formats.rows import BadRow
from pipeline.corpus.inventory import InputFile, inventory
from pipeline.corpus.reading import SCHEMA, Aside, Batch, batches, name_digest, read_batch
from pipeline.corpus.selection import file_of, limits
from pipeline.corpus.shards import SPLITS
from pipeline.corpus.sources import SOURCES
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.store import Artifact, Draft, Part, PartDraft, Recipe, Store
from pipeline.store.artifact import Input
from pipeline.store.local import sha256_of

EXAMPLES = 20
"""Of each reason, the artifact shows so many."""
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Inputs:
    """What the corpus is made from."""

    sources: list[InputFile]
    tests: list[InputFile]
    """Test sets that the corpus must not hold."""
    excluded: LocalFile | None
    """The list of documents that it must not hold."""

    def identity(self) -> tuple[Input, ...]:
        listed = [_told(self.excluded.path)] if self.excluded else []
        return (*(file.input for file in (*self.sources, *self.tests)), *listed)


def corpus_recipe(config: CorpusConfig, store: Store) -> tuple[Recipe, Inputs]:
    """What decides the corpus, and the files it is made from. Raises ConfigError or InputError before any work."""
    for source in (*config.sources, *config.decontaminate):
        bound(source, SOURCES, "source format")
    for plug in config.filters:
        bound(plug, FILTERS, "filter")
    inputs = Inputs(
        sources=inventory(config.sources, store.settings),
        tests=inventory(config.decontaminate, store.settings) if config.decontaminate else [],
        excluded=LocalFile(Path(config.excluded).expanduser()) if config.excluded else None,
    )
    return Recipe("corpus", config, SCHEMA, inputs=inputs.identity()), inputs


def _told(listed: Path) -> Input:
    """The list of exclusions as the recipe knows it."""
    try:
        return Input("excluded", listed.stat().st_size, sha256_of(listed))
    except OSError as error:
        raise InputError(f"{listed} (corpus.excluded) can't be read: {error.strerror}. Correct its path.") from None


def ingest_corpus(config: CorpusConfig, *, store: Store, map: Map = map, force: bool = False) -> Artifact:
    """Read, clean, deduplicate, mix and split the sources.

    Raises InputError: a missing, empty or truncated source; more bad rows than `max_bad_share`, or documents of another
    language than `max_foreign_share`; an empty split.
    """
    recipe, inputs = corpus_recipe(config, store)
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    units = batches(inputs.sources)
    aside = _read_aside(inputs, store)
    parts: list[Part] = list(map(partial(read_batch, config=config, aside=aside, store=store), units))
    steps = funnel(part.record["funnel"] for part in parts)
    _check_shares(steps, parts, config)
    repeats = repeated(parts, config.deduplication, store=store, map=map)
    finished = _finished(units, parts, repeats, config, store, map)
    steps += funnel(part.record["funnel"] for part in finished)
    _log_funnel(steps)
    with store.draft(recipe, force=force) as draft:
        card = _include(draft, finished)
        groups = count_groups([store.blob(file_of(part, GROUPS)) for part in finished])
        _check_splits(card, groups, config)
        _write_examples(draft, steps, [*parts, *finished])
        _write_replacements(draft, config)
        groups_found = {size: count for size, count in repeats.groups.items() if count}
        made = draft.commit(totals=_totals(card, groups, steps, config) | {"duplicate_groups": groups_found})
    documents = card.total("documents")
    log.info("made %s: %s documents to train on, %s held out", made, *(f"{documents[s]:,}" for s in SPLITS))
    return made


def _read_aside(inputs: Inputs, store: Store) -> Aside:
    """The list of exclusions and the test sets' n-grams."""
    excluded = frozenset[str]()
    if inputs.excluded:
        with inputs.excluded.open() as file:
            names = file.read().decode("utf-8", "replace").split("\n")
        excluded = frozenset(name_digest(name.strip()) for name in names if name.strip())
    if not inputs.tests:
        return Aside(excluded)
    identity = [[SCHEMA, file.source.reading(), file.input.identity] for file in inputs.tests]
    return Aside(excluded, store.part("ngrams", identity, partial(_write_ngrams, files=inputs.tests)).files[0])


def _write_ngrams(draft: PartDraft, *, files: list[InputFile]) -> dict[str, Any]:
    texts = []
    for file in files:
        for row in bound(file.source, SOURCES, "source format")(file.file):
            if isinstance(row, BadRow):
                raise InputError(f"{file.input.name} line {row.line}: {row.reason}. A test set must be whole: mend it.")
            texts.append(row.text)
    NGrams.of(texts).write(draft.folder / "ngrams.arrow")
    draft.add("ngrams.arrow")
    return {"texts": len(texts)}


def _finished(
    units: list[Batch], parts: list[Part], repeats: Repeats, config: CorpusConfig, store: Store, map: Map
) -> list[Part]:
    """The batches without what stands twice and what the mixture leaves out."""
    keep = limits(config.sources, [unit.files[0].source.name for unit in units], parts, repeats, store)
    unfinished = [Unfinished(*each) for each in zip(range(len(parts)), parts, keep, strict=True)]
    return list(map(partial(finish_batch, repeats=repeats, config=config, store=store), unfinished))


def _include(draft: Draft, finished: list[Part]) -> Card:
    """Number the shards of all batches, and add up their cards."""
    card, shards = Card(), Counter[str]()
    for part in finished:
        card.add(part.record["card"])
        for entry in part.files:
            split = entry.path.partition("/")[0]
            if split in SPLITS:
                draft.include(entry, f"{split}/{shards[split]:05d}.arrow")
                shards[split] += 1
    return card


def _check_shares(steps: list[dict[str, Any]], parts: list[Part], config: CorpusConfig) -> None:
    """Fail where too much of the input can't be used, or is in another language than the preset is for."""
    for name, share, setting, what in (
        ("read", config.max_bad_share, "max_bad_share", "rows can't be used"),
        ("language", config.max_foreign_share, "max_foreign_share", "documents are in another language"),
    ):
        step = next((step for step in steps if step["name"] == name), None)
        lost = sum(step["dropped"].values()) if step else 0
        if step is None or lost <= share * step["documents_in"]:
            continue
        examples = [each for part in parts for each in part.record["examples"] if each["step"] == name]
        shown = "; ".join(f"{each['file']} line {each['line']}: {each['reason']}" for each in examples[:3])
        raise InputError(
            f"{lost} of {step['documents_in']} {what}, over {setting} = {share}: {shown}. "
            f"Mend the source, or raise corpus.{setting}."
        )


def _check_splits(card: Card, groups: dict[str, int], config: CorpusConfig) -> None:
    documents = card.total("documents")
    for split, other in zip(SPLITS, reversed(SPLITS), strict=True):
        if not documents.get(split):
            raise InputError(
                f"No document is left in the {split} part of the corpus ({documents.get(other, 0)} in the other, "
                f"{groups[other]} groups, heldout_share = {config.heldout_share}). Give more documents or finer "
                f"groups, or change corpus.heldout_share."
            )


def _write_examples(draft: Draft, steps: list[dict[str, Any]], parts: Iterable[Part]) -> None:
    """`dropped.json`: documents by the reason they were dropped for, and a few of each."""
    seen, examples = Counter[str](), []
    for part in parts:
        for example in part.record["examples"]:
            seen[example["reason"]] += 1
            if seen[example["reason"]] <= EXAMPLES:
                examples.append(example)
    report = {"dropped": dropped(steps), "examples": examples}
    text = json.dumps(report, ensure_ascii=False, indent=1, sort_keys=True)  # a part that is found has its keys sorted
    (draft.folder / "dropped.json").write_text(text, encoding="utf-8")
    draft.add("dropped.json")


def _write_replacements(draft: Draft, config: CorpusConfig) -> None:
    """What the vocabulary keeps whole: a file, so that it counts in the corpus' digest."""
    if tokens := replacement_tokens(config.filters):
        (draft.folder / REPLACEMENTS).write_text("\n".join(tokens), encoding="utf-8")
        draft.add(REPLACEMENTS)


def _totals(card: Card, groups: dict[str, int], steps: list[dict[str, Any]], config: CorpusConfig) -> dict[str, Any]:
    sources = card.merged("sources")
    return {
        "rows_read": steps[0]["documents_in"],
        **{what: card.total(what) for what in ("documents", "characters", "bytes")},
        "groups": groups,
        "dropped": dropped(steps),
        "funnel": steps,
        "languages": card.merged("languages"),
        "lengths": card.lengths(),
        "sources": [
            source.model_dump(include={"name", "licence", "origin", "retrieved"})
            | {"documents": sources.get(source.name, 0)}
            for source in config.sources
        ],
        "restricted": config.restricted,
    }


def _log_funnel(steps: list[dict[str, Any]]) -> None:
    """A line for each step that took something out."""
    for step in steps:
        if step["dropped"]:
            reasons = sorted(step["dropped"].items(), key=lambda each: -each[1])
            shown = ", ".join(f"{count:,} {reason}" for reason, count in reasons[:4])
            more = f", and {len(reasons) - 4} other reasons" if len(reasons) > 4 else ""
            log.info(
                "%s: %s of %s documents dropped: %s%s",
                step["name"],
                f"{sum(step['dropped'].values()):,}",
                f"{step['documents_in']:,}",
                shown,
                more,
            )
