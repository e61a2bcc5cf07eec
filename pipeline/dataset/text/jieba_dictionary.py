"""jieba's dictionary and the user's own, read with the rules of jieba's `load_userdict`.

Counts of words are the package's own data (dict.txt), read past its cache: that is a file of everyone's temporary
folder, and is believed whoever wrote it. Costs a fifth of a second; with a dictionary of the user's half of one, as
jieba's own code then reads it, to say what makes a word without a count win.
"""

import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    import jieba

_LINE = re.compile(r"(\S+)(?: ([0-9]{1,12}))?(?: [a-z]+)?")


class Dictionary(NamedTuple):
    """How often words are, as jieba counts."""

    counts: dict[str, int]
    """Of each word; one of 0 is none."""
    total: int
    split: frozenset[str]
    """Words that the hidden Markov model may not make: the user's with a count of 0."""


def read_dictionary(path: Path) -> list[tuple[str, int | None]]:
    """A user's words with their counts, None where it gives none.

    Raises InputError where it can't be read, or a line isn't a word, perhaps a count, perhaps a tag.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            f"The segmenter's dictionary {path} can't be read: {error.strerror}. Name a file of UTF-8 text."
        ) from error
    words = [_entry(path, number, line.strip()) for number, line in enumerate(lines, 1)]
    return [entry for entry in words if entry]


def _entry(path: Path, number: int, line: bytes) -> tuple[str, int | None] | None:
    """A line's word and count; None where it is empty."""
    try:
        text = line.decode().lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The segmenter's dictionary {path} isn't UTF-8 in line {number}. Save it as UTF-8."
        ) from error
    if not text:
        return None
    found = _LINE.fullmatch(text)
    if not found:
        raise InputError(
            f"The segmenter's dictionary {path} has {text[:60]!r} in line {number}. Give a word, and behind one blank "
            f"each, if wanted, its count (up to 12 digits) and its tag (small letters)."
        )
    return found[1], int(found[2]) if found[2] else None


def dictionary(path: Path | None) -> Dictionary:
    """The package's dictionary with the user's, whose words without a count get what makes them win."""
    words = read_dictionary(path) if path else []
    if not words:
        return _of_the_package()
    tokenizer = plain_tokenizer()
    for word, given in words:
        count = tokenizer.suggest_freq(word) if given is None else given
        tokenizer.FREQ[word] = count
        tokenizer.total += count
        for end in range(1, len(word)):
            tokenizer.FREQ.setdefault(word[:end], 0)
    split = frozenset(word for word, given in words if given == 0)
    counts = {word: count for word, count in tokenizer.FREQ.items() if count or word in split}
    return Dictionary(counts, tokenizer.total, split)


def _of_the_package() -> Dictionary:
    """As `plain_tokenizer` has it, without the beginnings of words: lines of a word, a count and a tag."""
    with import_jieba().Tokenizer().get_dict_file() as file:
        fields = file.read().decode().split()
    words, counts = fields[::3], list(map(int, fields[1::3]))
    return Dictionary(dict(zip(words, counts, strict=True)), sum(counts), frozenset())


def plain_tokenizer() -> "jieba.Tokenizer":
    """What the package itself segments with, on its own dictionary."""
    package = import_jieba()
    tokenizer = package.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@cache
def import_jieba() -> "ModuleType":
    """The package, without its warnings: it spells its patterns as Python 2 did, and may ask for pkg_resources."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    return jieba  # type: ignore[no-any-return]
