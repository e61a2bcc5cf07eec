"""Masking of what identifies a person: e-mail and IP addresses, telephone, card and identity numbers, own patterns.

Each is replaced by one token, `[EMAIL]`, so that the text keeps its shape and a vocabulary learns one word. It lowers
the risk that a model repeats them; it is no anonymisation: names, addresses and what a text tells stay.

What is found must be right by its form, its checksum where it has one, and its surroundings; each module beside this
one says what it takes. Full-width digits and signs count as ASCII. A user's patterns come first, then addresses, then
numbers, the strictest first: a card number is no telephone number, also where cards aren't masked.

Text is scanned for an @, a dot or colon between digits, and seven digits in a row or parted by `.()/-` and blanks; only
where there are such, something is looked at closely, in steps that are bounded wherever they begin.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from pipeline.corpus.document import Document, Edited, Verdict
from pipeline.corpus.filters.identifiers.addresses import emails, ip_addresses
from pipeline.corpus.filters.identifiers.cards import card
from pipeline.corpus.filters.identifiers.edges import Span
from pipeline.corpus.filters.identifiers.identity import identity_number
from pipeline.corpus.filters.identifiers.patterns import check_patterns, compiled
from pipeline.corpus.filters.identifiers.phones import phone

Kind = Literal["email", "ip", "id", "card", "phone"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES: Mapping[str, str] = {
    "email": "e-mail address",
    "ip": "IP address",
    "id": "identity number",
    "card": "card number",
    "phone": "phone number",
}
"""What each kind is counted under."""

_NUMBERS: tuple[tuple[Kind, Callable[[str, int], Span | None]], ...] = (
    ("id", identity_number),
    ("card", card),
    ("phone", phone),
)
_CANDIDATE = re.compile(r"[0-9](?<![0-9][0-9])(?:[ .()/-]{0,3}[0-9A]){6}")
_DIGITS = re.compile(r"[0-9]+")
_DOTTED = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_ANY_SCRIPT = re.compile(
    r"[0-9０-９@＠(\[](?:(?<=[@＠])|(?<=[(\[])at[)\]]|[0-9]{0,2}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"
    r"|(?:[ .()/（）．／\u3000\u2010-\u2015\u2212－-]{0,3}[0-9A０-９Ａ]){6})"
)
_TO_ZERO = bytes(ord("0") if chr(byte) in "123456789A" else byte for byte in range(256))
_SEPARATORS = b" .()/-"
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ＠．－＿＋（）／：\u3000\u2010-\u2015\u2212]")
Found = tuple[int, int, str]
"""Start, end and what it is: a kind, or the name of a user's pattern."""


def mask_identifiers(
    document: Document,
    *,
    kinds: tuple[Kind, ...] = KINDS,
    patterns: Annotated[Mapping[str, str], AfterValidator(check_patterns)] = {},
) -> Verdict:
    """Each identifier of `kinds` becomes a token such as [EMAIL]; what a regex of `patterns` matches, [ITS_NAME].

    Raises ConfigError for a pattern that won't do; `pipeline.config.bound` raises it before any text is read.
    """
    text = document.text
    found = identifiers(text, kinds, patterns)
    if not found:
        return None
    parts, counts, position = list[str](), dict[str, int](), 0
    for start, end, what in found:
        parts += text[position:start], _token(what)
        position = end
        counts[NAMES.get(what, what)] = counts.get(NAMES.get(what, what), 0) + 1
    return Edited(replace(document, text="".join(parts) + text[position:]), counts)


def replacement_tokens(kinds: tuple[Kind, ...] = KINDS, patterns: Mapping[str, str] = {}) -> tuple[str, ...]:
    """What `mask_identifiers` writes: a vocabulary keeps these whole."""
    return tuple(_token(what) for what in (*kinds, *patterns))


def identifiers(text: str, kinds: tuple[Kind, ...] = KINDS, patterns: Mapping[str, str] = {}) -> list[Found]:
    """What lies where in `text`, in order; no two overlap."""
    found: list[Found] = []
    for name, pattern in compiled(tuple(patterns.items())) if patterns else ():
        found = _merged(found, [(*match.span(), name) for match in pattern.finditer(text) if match[0]])
    if _may_hold_any(text):
        plain = text if text.isascii() else _WIDE.sub(_narrow, text)
        for new in (_kind("email", emails(plain)), _kind("ip", ip_addresses(plain)), _numbers(plain)):
            found = _merged(found, new)
    return [item for item in found if item[2] in kinds or item[2] in patterns]


def _may_hold_any(text: str) -> bool:
    """A quick look, in which most texts end. ASCII goes in a quarter less time by ways that other text hasn't."""
    if not text.isascii():
        return bool(_ANY_SCRIPT.search(text) or (":" in text and _COLONS.search(text)))
    return bool(
        "@" in text
        or b"0000000" in text.encode().translate(_TO_ZERO, _SEPARATORS)
        or _DOTTED.search(text)
        or _COLONS.search(text)
        or "(at)" in text
        or "[at]" in text
    )


def _narrow(match: re.Match[str]) -> str:
    """A full-width sign or a dash, in ASCII."""
    code = ord(match[0])
    return chr(code - 0xFEE0) if 0xFF01 <= code <= 0xFF5E else " " if code == 0x3000 else "-"


def _kind(kind: Kind, spans: Iterable[Span]) -> Iterator[Found]:
    return ((start, end, kind) for start, end in spans)


def _token(what: str) -> str:
    return f"[{what.upper()}]"


def _numbers(text: str) -> Iterator[Found]:
    """Every number is tried as each kind, from its first digit; then what follows its first run of digits."""
    position = 0
    while candidate := _CANDIDATE.search(text, position):
        start = candidate.start()
        for kind, find in _NUMBERS:
            if span := find(text, start):
                yield *span, kind
                position = span[1]
                break
        else:
            run = _DIGITS.match(text, start)
            assert run is not None
            position = run.end()


def _merged(taken: list[Found], new: Iterable[Found]) -> list[Found]:
    """Both in order, without those of `new` that overlap one of `taken`."""
    merged, index = list[Found](), 0
    for item in new:
        while index < len(taken) and taken[index][1] <= item[0]:
            merged.append(taken[index])
            index += 1
        if index == len(taken) or item[1] <= taken[index][0]:
            merged.append(item)
    return merged + taken[index:]
