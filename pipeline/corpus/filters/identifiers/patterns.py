"""A user's own patterns, checked before any text is read.

Python's regex engine backtracks: a repetition inside a repetition may try as many ways as there are subsets of the
text, and a filter would hang on one document of millions. Such a pattern is refused; made possessive, it can't.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from pipeline.errors import ConfigError

RESERVED = frozenset({"EMAIL", "PHONE", "IP", "CARD", "ID", "PAD", "UNK", "CLS", "SEP", "MASK"})
"""What means something else in brackets: the other identifiers' tokens, and BERT's special ones."""
_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")


def check_patterns(patterns: Mapping[str, str]) -> Mapping[str, str]:
    """`patterns` as they are, or a ConfigError that says what is wrong with the first that won't do."""
    for name, pattern in patterns.items():
        where = f"The pattern {name} is {pattern!r}"
        if not _NAME.match(name) or name in RESERVED:
            raise ConfigError(
                f"A pattern is named {name!r}, and would be replaced by [{name}]. Give it a name of capital letters, "
                f"digits and underscores that is none of {', '.join(sorted(RESERVED))}."
            )
        try:
            compiled, tree = re.compile(pattern), _parser.parse(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"{where}, which is no regular expression: {error}.") from None
        if tree.getwidth()[0] == 0 or compiled.match(""):
            raise ConfigError(f"{where}, which matches the empty text. Let it need one character at least.")
        if _nested(tree):
            raise ConfigError(
                f"{where}, with a repetition inside a repetition, which can take for ever on some texts. Make the "
                f"inner one possessive: (?:[0-9]++-)+ for (?:[0-9]+-)+."
            )
    return patterns


@lru_cache(maxsize=64)
def compiled(patterns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Names and compiled patterns, checked; cached, since a filter is called for each document."""
    check_patterns(dict(patterns))
    return tuple((name, re.compile(pattern)) for name, pattern in patterns)


def _nested(tree: Iterable[Any], inside: bool = False) -> bool:
    """Whether an unbounded repetition holds another that may take more or less, both of which backtrack."""
    for operator, arguments in tree:
        if operator in (_parser.ATOMIC_GROUP, _parser.POSSESSIVE_REPEAT):
            continue
        repeats = operator in (_parser.MAX_REPEAT, _parser.MIN_REPEAT)
        if repeats and inside and arguments[1] > max(1, arguments[0]):
            return True
        unbounded = repeats and arguments[1] == _parser.MAXREPEAT
        if any(_nested(part, inside or unbounded) for part in _parts(arguments)):
            return True
    return False


def _parts(arguments: Any) -> Iterable[Any]:
    """The parse trees among an operator's arguments."""
    if isinstance(arguments, _parser.SubPattern):
        yield arguments
    elif isinstance(arguments, tuple | list):
        for argument in arguments:
            yield from _parts(argument)
