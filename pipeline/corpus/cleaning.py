"""What a document goes through: filters, each a pure function of one document, named in the preset.

`repair` comes first, then `normalise`: Unicode NFC, so that equal texts are equal bytes; control characters out; blanks
collapsed; paragraphs stay parted by newlines. Case and accents stay: they are the vocabulary's business. Then what
tells a text that shouldn't be learned from, and its language: one module each.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config import Plug
from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.filters.boilerplate import boilerplate_lines
from pipeline.corpus.filters.c4 import c4
from pipeline.corpus.filters.characters import Points, classes, points_of
from pipeline.corpus.filters.identifiers import mask_identifiers
from pipeline.corpus.filters.identifiers import replacement_tokens as tokens_of
from pipeline.corpus.filters.language import language
from pipeline.corpus.filters.measures import measured, tidy
from pipeline.corpus.filters.quality import fineweb, gopher_quality
from pipeline.corpus.filters.repair import repair
from pipeline.corpus.filters.repetition import gopher_repetition

_INERT = {"NFC": 0x300, "NFKC": 0xA0}
"""Below, no character of a text is changed by the form."""


def normalise(document: Document, *, form: Literal["NFC", "NFKC"] = "NFC") -> Verdict:
    """The text as `normalised` makes it."""
    text = normalised(document.text, form)
    return None if text == document.text else Edited(replace(document, text=text))


def normalised(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """`text` in Unicode's `form`, without control characters, its blanks collapsed, its lines trimmed."""
    scan = measured(text).scan
    if scan.untidy:
        text = _tidied(measured(text).points)
    if scan.highest < _INERT[form] or unicodedata.is_normalized(form, text):
        return text
    return _tidied(points_of(unicodedata.normalize(form, text)))


def _tidied(points: Points) -> str:
    return str(tidy(points, classes()).tobytes(), "utf-32-le", "surrogatepass")


def length(
    document: Document,
    *,
    min_characters: Annotated[int, Field(ge=0)] = 0,
    max_characters: Annotated[int, Field(ge=1)] | None = None,
) -> Verdict:
    """Reject a text of fewer or more characters."""
    if len(document.text) < min_characters:
        return Rejected("too short")
    return Rejected("too long") if max_characters is not None and len(document.text) > max_characters else None


def canary(document: Document, *, strings: tuple[Annotated[str, Field(min_length=1)], ...]) -> Verdict:
    """Reject a text that holds one of the strings, letter for letter: test sets and secrets are marked by such."""
    return Rejected("canary string") if any(map(document.text.__contains__, strings)) else None


def duplicate_key(text: str) -> str:
    """What two texts share that are the same but for case and blanks."""
    return " ".join(text.casefold().split())


FILTERS: dict[str, Callable[..., Verdict]] = {
    "repair": repair,
    "normalise": normalise,
    "length": length,
    "language": language,
    "boilerplate_lines": boilerplate_lines,
    "gopher_repetition": gopher_repetition,
    "gopher_quality": gopher_quality,
    "c4": c4,
    "fineweb": fineweb,
    "canary": canary,
    "mask_identifiers": mask_identifiers,
}
"""`(document, *, keywords) -> Verdict`: None keeps the document, Edited changes it, Rejected drops it."""


def replacement_tokens(filters: Sequence[Plug]) -> tuple[str, ...]:
    """The tokens that the filters put where they mask something, each once."""
    masks = (plug.keywords for plug in filters if plug.name == "mask_identifiers")
    return tuple(dict.fromkeys(token for keywords in masks for token in tokens_of(**keywords)))
