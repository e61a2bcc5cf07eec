"""Text that went through a wrong encoding, made whole again before anything else looks at it.

UTF-8 that was read as Windows-1252 or Latin-1 (`cafÃ©`, `donâ€™t`) is told by its pairs of characters in the scan that
`normalise` needs anyway; only a text that has such a pair is given to ftfy (Speer 2019), which decides whether it is
mojibake and costs far more than the scan. What is lost (U+FFFD) can't be repaired: too much of it rejects the text.
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.filters.measures import measured


def repair(document: Document, *, max_lost: Annotated[float, Field(ge=0, le=1)] = 0.01) -> Verdict:
    """The text with its mojibake undone; `max_lost`: share of its characters that may be U+FFFD."""
    text = document.text
    if measured(text).scan.garbled:
        text = _mended(text)
    if text.count("\ufffd") > max_lost * len(text):
        return Rejected("broken characters")
    return None if text == document.text else Edited(replace(document, text=text), {"mojibake": 1})


def _mended(text: str) -> str:
    from ftfy import fix_encoding
    from ftfy.fixes import fix_c1_controls

    return str(fix_c1_controls(fix_encoding(text)))
