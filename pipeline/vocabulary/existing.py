"""A vocabulary that is there already: read, judged, and extended by the words of a corpus.

An extension adds the tokens that its user or the corpus names, characters that the vocabulary lacks, then whole words,
the dearest first: the pieces that a word is parted into, times how often it stands. Words and not pieces, because a
slot is spent on what the text has; no old id changes. (Pieces that merges pass through on the way to a word would take
slots and then be used by nobody.)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import ExistingVocabulary, VocabularyConfig, is_reference
from pipeline.errors import ConfigError, InputError
from pipeline.store import Artifact, Store
from pipeline.store.artifact import Input
from pipeline.store.local import sha256_of
from pipeline.vocabulary.alphabet import alphabet_of, character_counts
from pipeline.vocabulary.counts import WordCounts
from pipeline.vocabulary.layout import CONTINUES, SPECIALS, check_tokens, first_entries, is_unused
from pipeline.vocabulary.pieces import cut, pieces_of
from pipeline.vocabulary.tokenizer import Form, bert_normalizer, bert_pre_tokenizer, load_form


@dataclass(frozen=True)
class Existing:
    """Where a vocabulary is: in the store, or a file."""

    artifact: Artifact | None
    path: Path
    config: ExistingVocabulary

    @property
    def name(self) -> str:
        """What people know it by."""
        if self.artifact is not None:
            return str(self.artifact)
        return self.path.parent.name if self.path.name == "vocab.txt" else self.path.stem

    @property
    def input(self) -> Input:
        """What of it counts where a card is to name it."""
        if self.artifact is not None:
            return Input(self.name, 0, version=self.artifact.digest)
        return Input(self.name, self.path.stat().st_size, sha256_of(self.path))


def find_existing(config: ExistingVocabulary, store: Store) -> Existing:
    """Where it is. Raises ConfigError where a path leads to no file."""
    if is_reference(config.vocabulary, "vocabulary"):
        return Existing(store.resolve(config.vocabulary), Path(), config)
    path = Path(config.vocabulary).expanduser().absolute()  # its folder may name it
    path = path / "vocab.txt" if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(
            f"There is no vocabulary at {config.vocabulary}. Give the path of a vocab.txt, of a folder that has one, "
            f"or a reference such as vocabulary/NAME@VERSION."
        )
    return Existing(None, path, config)


def find_compared(config: VocabularyConfig, store: Store) -> list[Existing]:
    """The vocabularies to set beside it. Raises ConfigError for two of one name, of which a card would show one."""
    found = [find_existing(each, store) for each in config.compare]
    for name, times in Counter(each.name for each in found).items():
        if times > 1:
            raise ConfigError(
                f"vocabulary.compare has {times} vocabularies named {name}, as the folder or the file is called. Give "
                f"each a name of its own."
            )
    return found


def check_vocabulary(config: VocabularyConfig, store: Store) -> None:
    """Raise for what can be told before any work: of tokens and layout, and of the vocabularies that are named."""
    check_tokens(config.tokens)
    if config.base is None:
        first_entries(config.layout, config.unused)
    based = [find_existing(config.base, store)] if config.base else []
    for each in (*based, *find_compared(config, store)):
        read_existing(each, config, store)


def read_existing(existing: Existing, default: VocabularyConfig, store: Store) -> tuple[list[str], Form]:
    """Its entries in the order of their ids, and how a text is read by it.

    Raises ConfigError for an artifact that says otherwise than the config how text is read, and as `read_vocabulary`.
    """
    given = existing.config
    if existing.artifact is None:
        lowercase = default.lowercase if given.lowercase is None else given.lowercase
        strip = (
            default.strip_accents if given.lowercase is None and given.strip_accents is None else given.strip_accents
        )
        return read_vocabulary(existing.path), Form(lowercase, strip)
    form = load_form(store, existing.artifact)
    for key in ("lowercase", "strip_accents"):
        if getattr(given, key) not in (None, own := getattr(form, key)):
            raise ConfigError(
                f"{existing.name} has {key} = {own}, and {getattr(given, key)} was given. Leave the key out: it is "
                f"for files."
            )
    return read_vocabulary(store.file(existing.artifact, "vocab.txt"), form.whole), form


def read_vocabulary(path: Path, whole: Sequence[str] = ()) -> list[str]:
    """The entries of a `vocab.txt`, one a line, in the order of their ids; lines end as on Unix or Windows.

    Raises InputError, with line and entry: not UTF-8, an empty line, a blank within an entry that isn't one of those
    kept `whole`, an entry given twice; and where a special is missing.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    rows = data.removesuffix(b"\n").split(b"\n")
    entries = dict[str, int]()
    for line, row in enumerate(rows, 1):
        try:
            entry = row.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise InputError(
                f"{path}, line {line}: {row[:40]!r} is not UTF-8. A vocab.txt has one entry a line."
            ) from None
        if not entry:
            raise InputError(f"{path}, line {line} is empty; each line is the entry of the id {line - 1}.")
        if {" ", "\t", "\r"} & {*entry} and entry not in whole:
            raise InputError(
                f"{path}, line {line}: the entry {entry[:60]!r} has a blank in it, which no word of BERT has. A "
                f"vocab.txt has entries alone, without counts or ids."
            )
        if entry in entries:
            raise InputError(
                f"{path}, line {line}: the entry {entry!r} stands on line {entries[entry]} already; it has one id."
            )
        entries[entry] = line
    if missing := [special for special in SPECIALS if special not in entries]:
        raise InputError(
            f"{path} has {len(entries):,} entries, but not {', '.join(missing)}: it is not a vocabulary of BERT."
        )
    return list(entries)


def extended(
    base: Sequence[str], counts: WordCounts, config: VocabularyConfig, tokens: Sequence[str] = ()
) -> list[str]:
    """The entries with what is new in free slots, the first ones first, or behind the last, as `config.base` says.

    New are `tokens`, all of them; the characters of the words that stand often enough; then words. Raises ConfigError
    where there is no room.
    """
    known = set(base)
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    appends = config.base is not None and config.base.new_words == "append"
    room = config.size - len(base) if appends else sum(map(is_unused, base))
    if room < max(1, len(new)):
        what = f"vocabulary.size is {config.size:,}" if appends else f"{max(0, room):,} [unused] slots"
        raise ConfigError(
            f"The base vocabulary has {len(base):,} entries and {what}: there is no room for "
            f'{f"{len(new):,} tokens" if new else "new words"}. Give a larger size and new_words = "append".'
        )
    new += _new_characters([*base, *new], counts, config)[: room - len(new)]
    if len(new) < room:
        new += _new_words([*base, *new], counts, config)[: room - len(new)]
    if appends:
        return [*base, *new]
    waiting = iter(new)
    return [next(waiting, entry) if is_unused(entry) else entry for entry in base]


def _new_characters(base: Sequence[str], counts: WordCounts, config: VocabularyConfig) -> list[str]:
    """Characters that stand often enough and aren't entries, the most frequent first."""
    known, (sums, _) = set(base), character_counts(counts)
    new = [entry for entry in alphabet_of(counts, config.character_frequency) if entry not in known]
    return sorted(new, key=lambda entry: (-sums[ord(entry[-1])], entry[-1], len(entry)))


def _new_words(base: Sequence[str], counts: WordCounts, config: VocabularyConfig) -> list[str]:
    """Words that would save pieces, the most first; of equals the one whose text comes first."""
    _, starts = cut(counts.text, counts.starts, pieces_of({entry: number for number, entry in enumerate(base)}))
    pieces = np.diff(starts)
    rows = np.flatnonzero((counts.counts >= config.min_frequency) & (pieces > 1))
    saved = counts.counts[rows] * (pieces[rows] - 1)
    chosen = rows[np.argsort(-saved, kind="stable")]
    return [counts.word(int(row)).decode() for row in chosen[: config.size]]


def unreachable(entries: Sequence[str], form: Form) -> list[str]:
    """Entries that no text is ever encoded to: another case, accents, or what always stands alone with `##` before it.

    Specials and free slots aren't meant to be.
    """
    normalizer, pre_tokenizer = bert_normalizer(form.lowercase, form.strip_accents), bert_pre_tokenizer()
    apart = {*SPECIALS, *form.whole}
    found = list[str]()
    for entry in entries:
        if entry in apart or is_unused(entry):
            continue
        text = f"x{entry[len(CONTINUES) :]}" if entry.startswith(CONTINUES) else entry
        words = [word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))]
        if words != [text]:
            found.append(entry)
    return found
