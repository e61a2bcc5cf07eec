"""The vocabulary stage: count the words of the corpus' train part, train, and say how well it fits held-out text."""

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.config import VocabularyConfig
from pipeline.corpus.document import REPLACEMENTS, read_documents
from pipeline.errors import InputError
from pipeline.mapping import Map
from pipeline.store import Artifact, Recipe, Store
from pipeline.vocabulary.counting import count_shard, merged_counts
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES, make_tokenizer, write_tokenizer_files
from pipeline.vocabulary.wordpiece import SPECIALS, train_wordpiece

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMA = 1
CARD_DOCUMENTS = 2_000
log = logging.getLogger("bertmill")


def build_vocabulary(
    config: VocabularyConfig, corpus: Artifact, *, store: Store, map: Map = map, force: bool = False
) -> Artifact:
    """Learn a WordPiece vocabulary. Raises ConfigError where `size` can't hold the alphabet."""
    recipe = Recipe("vocabulary", config, SCHEMA, parents=(corpus,))
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    shards = store.manifest(corpus).matching("train/")
    whole = replacement_tokens(corpus, store)
    parts = list(map(partial(count_shard, config=config, whole=whole, store=store), shards))
    counts = merged_counts(parts, store)
    if not counts:
        raise InputError(f"{corpus} has no words to learn a vocabulary from.")
    vocabulary = train_wordpiece(counts, size=config.size, min_frequency=config.min_frequency, whole=whole)
    form: dict[str, Any] = {"lowercase": config.lowercase, "strip_accents": config.strip_accents, "whole": whole}
    tokenizer = make_tokenizer(vocabulary, **form)
    card = fit(tokenizer, corpus, store) | {"size": len(vocabulary), "distinct_words": len(counts)}
    with store.draft(recipe, force=force) as draft:
        write_tokenizer_files(draft.folder, vocabulary, **form)
        (draft.folder / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        draft.add_all([*TOKENIZER_FILES, "card.json"])
        made = draft.commit(totals={"size": len(vocabulary), "words": counts.total()}, metrics=card)
    log.info("made %s: %s entries, unknown rate %.4f %%", made, len(vocabulary), 100 * card["unknown_rate"])
    return made


def replacement_tokens(corpus: Artifact, store: Store) -> tuple[str, ...]:
    """The tokens that stand in the corpus for what was masked, and that the vocabulary keeps whole."""
    if not store.manifest(corpus).matching(REPLACEMENTS):
        return ()
    return tuple(store.file(corpus, REPLACEMENTS).read_text(encoding="utf-8").split("\n"))


def fit(tokenizer: "Tokenizer", corpus: Artifact, store: Store) -> dict[str, Any]:
    """How the vocabulary fits held-out text: unknown rate of tokens, pieces per word, characters per token."""
    words = tokens = unknown = characters = documents = 0
    unknown_id = SPECIALS.index("[UNK]")
    for entry in store.manifest(corpus).matching("heldout/"):
        for document in read_documents(store.blob(entry)):
            if documents == CARD_DOCUMENTS:
                break
            documents += 1
            encoding = tokenizer.encode(document.text, add_special_tokens=False)
            tokens += len(encoding.ids)
            unknown += encoding.ids.count(unknown_id)
            words += len({word for word in encoding.word_ids if word is not None})
            characters += sum(map(len, document.text.split()))
    return {
        "heldout_documents": documents,
        "heldout_tokens": tokens,
        "unknown_rate": unknown / max(1, tokens),
        "pieces_per_word": tokens / max(1, words),
        "characters_per_token": characters / max(1, tokens),
    }
