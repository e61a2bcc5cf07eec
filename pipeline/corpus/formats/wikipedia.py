"""Wikipedia's dumps of pages (`*-pages-articles*.xml.bz2`, multistream or not): an article a row.

A dump is written by one program, in one form, so pages are cut out of the stream as bytes and their few members found
by name; nothing that a document type might define is ever expanded. Redirects, pages that aren't articles and, unless
they are asked for, disambiguations are passed over. Memory holds one page.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from pipeline.corpus.formats import rows
from pipeline.corpus.formats.compression import chunks
from pipeline.corpus.formats.places import File
from pipeline.corpus.formats.rows import NOT_UTF8, TOO_LONG, BadRow, Row
from pipeline.corpus.formats.wikitext import Variant, plain_text
from pipeline.errors import InputError

_START, _END = b"<page>", b"</page>"
HEAD, TAIL = 4_096, 64
"""Bytes in which a dump tells that it is one, and that are kept of what isn't a page: a mark in two chunks, the end."""
_FORM = re.compile(r"<ns>(\d+)</ns>.*?<id>(\d+)</id>", re.DOTALL)
_TITLE = re.compile(r"<title>([^<]*)</title>")
_TIMESTAMP = re.compile(r"<timestamp>(\d{4}-\d\d-\d\d)T")
_TEXT = re.compile(r"<text(?:\s[^<>]*)?(?:/>|>([^<]*)</text>)")
_REDIRECT = re.compile(r"\s*#(?:redirect|重定向)\b", re.IGNORECASE)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:(?:[\w ]{0,60}\s)?disambig(?:uation)?(?:[ -][\w ]*)?|dab|hndis|geodis|消歧义|消歧義|disambig)\s*[|}]",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"&(?:lt|gt|quot|apos|amp|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));")
_REFERENCES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}


def read_wikipedia(
    file: File,
    *,
    language: Literal["en", "zh"] = "en",
    variant: Variant = "zh-hans",
    disambiguations: bool = False,
    sections: tuple[str, ...] | None = None,
) -> Iterator[Row | BadRow]:
    """Articles of a dump, without the sections of those headings; None: references and the like.

    `variant`: which form of Chinese stays where a page has several.
    """
    for number, page in pages(chunks(file), file.name):
        if page is None:
            yield BadRow(number, TOO_LONG)
            continue
        try:
            text = page.decode("utf-8")
        except UnicodeDecodeError:
            yield BadRow(number, NOT_UTF8)
            continue
        form, written = _FORM.search(text), _TEXT.search(text)
        if form is None or written is None:
            yield BadRow(number, "a page without its namespace, id or text")
            continue
        source = _unescaped(written[1] or "")
        if form[1] != "0" or "<redirect " in text[: written.start()] or _REDIRECT.match(source):
            continue
        if not disambiguations and _DISAMBIGUATION.search(source):
            continue
        title = _TITLE.search(text)
        name = _unescaped(title[1]) if title else ""
        plain = plain_text(source, title=name, language=language, variant=variant, sections=sections)
        day = _TIMESTAMP.search(text)
        yield Row(number, f"{name}\n\n{plain}" if plain else "", form[2], None, language, day[1] if day else None)


def pages(stream: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, bytes between its tags; None where they are too many) for each page of a dump.

    InputError where it isn't a dump, or ends before it is whole.
    """
    number, held, head, inside, too_long = 0, b"", b"", False, False
    for chunk in stream:
        if len(head) < HEAD:
            head += chunk[: HEAD - len(head)]
            if len(head) == HEAD:
                _check_head(head, name)
        held += chunk
        position = 0
        while (found := held.find(_END if inside else _START, position)) >= 0:
            if inside:
                number += 1
                whole = not too_long and found - position <= rows.LONGEST
                yield number, held[position:found] if whole else None
            position = found + len(_END if inside else _START)
            inside, too_long = not inside, False
        left = len(held) - position
        too_long = too_long or (inside and left > rows.LONGEST)
        held = held[len(held) - (left if inside and not too_long else min(left, TAIL)) :]
    _check_head(head, name)
    if inside or b"</mediawiki>" not in held:
        raise InputError(f"{name} is cut off after page {number:,}. Fetch it again.")


def _check_head(head: bytes, name: str) -> None:
    if b"<mediawiki" not in head:
        raise InputError(
            f"{name} is no dump of Wikipedia's pages: it begins {head[:40]!r}. Give a *-pages-articles*.xml.bz2."
        )


def _unescaped(text: str) -> str:
    """XML's own references resolved, once; any other is text."""
    return _REFERENCE.sub(_referred, text) if "&" in text else text


def _referred(match: re.Match[str]) -> str:
    if (char := _REFERENCES.get(match[0])) is not None:
        return char
    code = int(match[1]) if match[1] else int(match[2], 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
