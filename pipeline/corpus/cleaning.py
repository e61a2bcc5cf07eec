"""What a document goes through: filters, each a pure function of one document, named in the preset.

`normalise` comes first: Unicode NFC, so that equal texts are equal bytes; control characters out; blanks collapsed;
paragraphs stay parted by newlines. Case and accents stay: they are the vocabulary's business.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pipeline.corpus.document import Document, Edited, Verdict

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_BLANKS = re.compile(r"[^\S\n]+")
_EDGES = re.compile(r" ?\n ?")
_BREAKS = re.compile(r"\n{3,}")


def normalise(document: Document, *, form: Literal["NFC", "NFKC"] = "NFC") -> Verdict:
    """The text as `normalised` makes it."""
    text = normalised(document.text, form)
    return None if text == document.text else Edited(replace(document, text=text))


def normalised(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """`text` in Unicode's `form`, without control characters, its blanks collapsed, its lines trimmed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    text = unicodedata.normalize(form, _CONTROL.sub("", text))  # in this order: what parted two may join them
    text = _EDGES.sub("\n", _BLANKS.sub(" ", text))
    return _BREAKS.sub("\n\n", text).strip()


def duplicate_key(text: str) -> str:
    """What two texts share that are the same but for case and blanks."""
    return " ".join(text.casefold().split())


FILTERS: dict[str, Callable[..., Verdict]] = {"normalise": normalise}
"""`(document, *, keywords) -> Verdict`: None keeps the document, Edited changes it, Rejected drops it."""
