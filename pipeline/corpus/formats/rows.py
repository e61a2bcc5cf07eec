"""What a reader gives, a document or a row that can't be used, and which of a row's members it is made of.

Both are plain tuples: one is made for each document, and a frozen dataclass takes three times as long to make.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date as Date
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import Field

LONGEST = 64 << 20
"""Bytes of a line or a document; a longer one is a bad row, and is never held in memory."""
TOO_LONG = f"longer than {LONGEST >> 20} MiB"
NOT_UTF8 = "not UTF-8"
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one; no encoding of Unicode can


class Row(NamedTuple):
    """A document as its source has it; None where the source doesn't say."""

    line: int
    """Of the file, or the row of a table: from 1."""
    text: str
    id: str | None = None
    group: str | None = None
    lang: str | None = None
    date: str | None = None


class BadRow(NamedTuple):
    """A row that can't be used, and why."""

    line: int
    reason: str


Text = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""The member that is the text, or several that are joined."""
Plain = int | float | Date
"""What is told as text where a member isn't."""


def plain(value: Plain) -> str | None:
    """A number or date as text. 7.0 is 7: tables that lack some numbers hold the others so. NaN is none."""
    if isinstance(value, Date):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value) if value == value else None
    return str(value)


@dataclass(frozen=True)
class Members:
    """The members of an object, or columns of a table, that make a document; `a.b` is the member b of a."""

    text: Text = "text"
    """Several are joined by newlines; those that are empty or absent are left out."""
    id: str = "id"
    group: str = "group"
    lang: str = "lang"
    date: str = "date"

    @cached_property
    def texts(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @cached_property
    def others(self) -> tuple[str, ...]:
        return (self.id, self.group, self.lang, self.date)

    @property
    def named(self) -> tuple[str, ...]:
        """Those that must be there: the text's, and what the user has named himself."""
        defaults = ("id", "group", "lang", "date")
        return (*self.texts, *(own for own, default in zip(self.others, defaults, strict=True) if own != default))

    def row(self, line: int, values: Mapping[str, Any], told: Callable[[Plain], str | None] = plain) -> Row | BadRow:
        """The document that `values` are; `told` makes text of what is plain."""
        text = member(values, self.text) if isinstance(self.text, str) else self._joined(values)
        if not isinstance(text, str):
            return BadRow(line, f"no member {' or '.join(map(repr, self.texts))} that is text")
        others = []
        for name in self.others:
            value = member(values, name)
            if value is not None and not isinstance(value, str):
                if not isinstance(value, Plain):
                    return BadRow(line, f"the member {name!r} is neither text nor a number")
                value = told(value)
            others.append(value or None)
        return Row(line, text, *others)

    def _joined(self, values: Mapping[str, Any]) -> str | None:
        found = [value for value in (member(values, name) for name in self.texts) if value is not None]
        if not found or not all(isinstance(value, str) for value in found):
            return None
        return "\n".join(value for value in found if value)


def member(values: Any, name: str) -> Any:
    """The member of that name; None where there is none. A dot goes down a level, unless the name itself has it."""
    value = values.get(name)
    if value is not None or "." not in name or name in values:
        return value
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def has_half_a_pair(row: Row) -> bool:
    """Whether half of a surrogate pair stands somewhere in a row."""
    return any(isinstance(value, str) and _SURROGATE.search(value) for value in row)
