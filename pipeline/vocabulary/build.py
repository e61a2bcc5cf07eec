"""The vocabulary stage: count the words of the corpus' train part, train, and say how well it fits held-out text.

Or, with a base: take a vocabulary that is there, as it is or with the corpus' words in its free slots or behind it.
"""

import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.config import VocabularyConfig
from pipeline.corpus.document import REPLACEMENTS
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.store import Artifact, Part, Recipe, Store
from pipeline.vocabulary.alphabet import character_counts
from pipeline.vocabulary.card import examples, fit
from pipeline.vocabulary.counting import count_words
from pipeline.vocabulary.counts import WordCounts, read_counts
from pipeline.vocabulary.existing import extended, find_compared, find_existing, read_existing
from pipeline.vocabulary.layout import check_tokens, first_entries
from pipeline.vocabulary.scripts import WRITTEN_IN, count_letters
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES, Form, split_tokens, write_tokenizer_files
from pipeline.vocabulary.wordpiece import train_wordpiece

SCHEMA = 2
MIN_LETTERS_SHARE = 0.01
"""Of a corpus' letters, those of its language's script: with fewer it isn't what it says it is."""
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Learned:
    """A vocabulary in the making."""

    entries: list[str]
    form: Form
    counts: Part | None
    """The train part's words; None where none were needed."""


def vocabulary_recipe(config: VocabularyConfig, corpus: Artifact, store: Store) -> Recipe:
    """All that decides the vocabulary. Raises ConfigError where an existing one isn't where the config says."""
    base = find_existing(config.base, store) if config.base else None
    parents = (corpus, base.artifact) if base and base.artifact else (corpus,)
    # A base is told by its bytes alone; what is set beside it, by its name in the card too.
    files = [replace(base.input, name="vocab.txt")] if base and not base.artifact else []
    compared = [each.input for each in find_compared(config, store)]
    # The same text, restricted, has the same digest; but what the artifact may show of it is less.
    extra = (("restricted", "true"),) if is_restricted(corpus, store) else ()
    return Recipe("vocabulary", config, SCHEMA, parents=parents, inputs=(*files, *compared), extra=extra)


def build_vocabulary(
    config: VocabularyConfig, corpus: Artifact, *, store: Store, map: Map = map, force: bool = False
) -> Artifact:
    """Learn, import or extend a WordPiece vocabulary.

    Raises ConfigError where `size` can't hold the alphabet or leaves no room, InputError for a corpus without words or
    without its language's letters, and for a malformed vocabulary.
    """
    recipe = vocabulary_recipe(config, corpus, store)
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    with store.draft(recipe, force=force) as draft:
        made = _from_base(config, corpus, store, map) if config.base else _learned(config, corpus, store, map)
        card = _card(made, config, corpus, store, map)
        write_tokenizer_files(draft.folder, made.entries, made.form)
        (draft.folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
        draft.add_all([*TOKENIZER_FILES, "card.json"])
        if made.counts and (config.min_groups > 1 or not is_restricted(corpus, store)):
            draft.include(made.counts.files[0], "counts.arrow")
        artifact = draft.commit(
            totals={"size": len(made.entries)} | (made.counts.record if made.counts else {}),
            metrics={key: value for key, value in card.items() if key not in ("split_words", "dropped_characters")},
        )
    log.info("made %s: %s entries, unknown rate %.4f %%", artifact, len(made.entries), 100 * card["unknown_rate"])
    return artifact


def _learned(config: VocabularyConfig, corpus: Artifact, store: Store, map: Map) -> Learned:
    form, words = _naming_tokens(Form(config.lowercase, config.strip_accents), config, corpus, store)
    part, counts = _counted(config, form, corpus, store, map)
    entries = train_wordpiece(
        counts,
        size=config.size,
        min_frequency=config.min_frequency,
        min_character_frequency=config.character_frequency,
        objective=config.objective,
        reserved=first_entries(config.layout, config.unused, [*form.whole, *words]),
    )
    return Learned(entries, form, part)


def _from_base(config: VocabularyConfig, corpus: Artifact, store: Store, map: Map) -> Learned:
    """A vocabulary that is there, with new words where the config asks for them."""
    assert config.base is not None
    entries, form = read_existing(find_existing(config.base, store), config, store)
    form, words = _naming_tokens(form, config, corpus, store)
    if config.base.new_words == "none":
        known = set(entries)
        return Learned(entries, replace(form, whole=tuple(token for token in form.whole if token in known)), None)
    part, counts = _counted(config, form, corpus, store, map)
    return Learned(extended(entries, counts, config, [*form.whole, *words]), form, part)


def _naming_tokens(form: Form, config: VocabularyConfig, corpus: Artifact, store: Store) -> tuple[Form, list[str]]:
    """The form with the tokens to be found as they are written, the corpus' own first; and those that are words."""
    words, written = split_tokens(config.tokens, form.lowercase, form.strip_accents)
    whole = dict.fromkeys([*form.whole, *replacement_tokens(corpus, store), *written])
    check_tokens(whole)
    return replace(form, whole=tuple(whole)), words


def _counted(config: VocabularyConfig, form: Form, corpus: Artifact, store: Store, map: Map) -> tuple[Part, WordCounts]:
    """The words of the train part. Raises InputError for none, and where they aren't of the corpus' language."""
    shards = store.manifest(corpus).matching("train/")
    part = count_words(shards, form, min_groups=config.min_groups, store=store, map=map) if shards else None
    if part is None or not part.files[0].rows:
        kept = f" that stand in {config.min_groups} groups" if config.min_groups > 1 else ""
        raise InputError(f"{corpus} has no words{kept} to learn a vocabulary from.")
    counts = read_counts(store.blob(part.files[0]))
    _check_language(counts, corpus, store)
    return part, counts


def _check_language(counts: WordCounts, corpus: Artifact, store: Store) -> None:
    """Raise for a corpus whose letters aren't those of the language that most of its documents are said to be in."""
    languages: dict[str, int] = store.manifest(corpus).totals["languages"]
    lang = max(sorted(languages), key=lambda each: languages[each])
    if lang not in WRITTEN_IN:
        return
    letters = count_letters(character_counts(counts)[0])
    own = sum(letters.get(script, 0) for script in WRITTEN_IN[lang])
    if own < MIN_LETTERS_SHARE * sum(letters.values()):
        most = max(letters, key=lambda script: letters[script])
        raise InputError(
            f"The language of {corpus} is {lang}, but of its {sum(letters.values()):,} letters {own:,} are "
            f"{' or '.join(sorted(WRITTEN_IN[lang]))}; most are {most}. Give the corpus its language, [corpus] lang, "
            f"or its rows, or look at its sources."
        )


def is_restricted(corpus: Artifact, store: Store) -> bool:
    """Whether no text of the corpus may leave its own artifact."""
    return bool(store.manifest(corpus).config["restricted"])


def replacement_tokens(corpus: Artifact, store: Store) -> tuple[str, ...]:
    """The tokens that stand in the corpus for what was masked, and that the vocabulary keeps whole."""
    if not store.manifest(corpus).matching(REPLACEMENTS):
        return ()
    return tuple(store.file(corpus, REPLACEMENTS).read_text(encoding="utf-8").split("\n"))


def _card(made: Learned, config: VocabularyConfig, corpus: Artifact, store: Store, map: Map) -> dict[str, Any]:
    """How the vocabulary, and those it is set beside, fit held-out text; examples of the text where it may be shown."""
    heldout = partial(count_words, store.manifest(corpus).matching("heldout/"), store=store, map=map)
    card = fit(made.entries, made.form, own := heldout(made.form), store)
    if config.compare:
        card["beside"] = {}
    for existing in find_compared(config, store):
        entries, form = read_existing(existing, config, store)
        card["beside"][existing.name] = fit(entries, form, heldout(form), store)
    hides_rare = config.min_groups > 1
    if not is_restricted(corpus, store) and (made.counts or not hides_rare):
        among = read_counts(store.blob(made.counts.files[0])) if made.counts and hides_rare else None
        card |= examples(made.entries, own, store, among)
    return card
