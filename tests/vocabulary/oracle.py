"""What `tokenizers` makes of a text, and texts that ask for all that it does: what compiled code must equal."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.vocabulary.layout import LONGEST_WORD, SPECIALS
from pipeline.vocabulary.tokenizer import Form, bert_normalizer, bert_pre_tokenizer, make_tokenizer

KEPT = ("[EMAIL]", "[PERSON 1]", "a b", "ab", "é", "b\u0301", "MASK", "K] a", "[SE", " z", "河水", "\U0001f600")
"""Tokens kept whole: in and over words, with blanks, inside each other and over special tokens."""
NASTY = (
    "aAbBzé ÉßΣσςİıǅﬁ'.-|#[]{}$^`~0٣²\t\n\r\x00\x07\x0b\x0c\x1c\x7f\x85\u00a0\u00ad\u034f\u0301\u0327\u0345\u0308"
    "\u0598\u06dd\u0898\u0d3c\u200b\u200d\u200e\u2028\u2029\u202f\u205f\u302e\u3000\u3099が가각ᄀ\u1161\u11a8丽河水"
    "㐀々〇\uf900\ufb1d\ufe0f\ufeff\uff21\uff5c\ufffc\ufffd\uffff\ue000\U0001d165\U0001d16d\U0001d173\U0001f600\U0002f800"
    "\U0003ffff\U00040000\U000e0001\U000e007f\U000e0100\U000f0000\U0010ffff"
)
"""Of each thing that is treated in its own way, one or a few."""
MOVING = "\u302e\U0001d165\U0001d16d"
"""Marks that stay where accents go, and whose canonical order is another: 224, 216 and 226."""
SPANS = ((0x20, 0x7F), (0x80, 0x250), (0x250, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000))
"""Code points that stand together in a text: with the first most are letters, with the last most are unassigned."""
FORMS = {
    "uncased": Form(),
    "cased": Form(lowercase=False),
    "accents kept": Form(strip_accents=False),
    "cased without accents": Form(lowercase=False, strip_accents=True),
}
TEXTS = st.lists(
    st.text(st.sampled_from(NASTY) | st.characters(codec="utf-8"), max_size=40)
    | st.lists(st.sampled_from([*KEPT, *SPECIALS, *"aébK] [", *MOVING, "a" * 99]), max_size=12).map("".join),
    max_size=6,
)


def random_texts(seed: int, count: int) -> list[str]:
    """Texts of random Unicode, 0 to 40 characters of one span each, with blanks and what is in `NASTY` between them."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 41, count)
    low, high = np.array(SPANS).T
    spans = np.repeat(rng.integers(0, len(SPANS), count), lengths)
    points = rng.integers(low[spans], high[spans])
    which = rng.random(len(points))
    points[which < 0.25] = rng.choice([ord(each) for each in NASTY], int(np.count_nonzero(which < 0.25)))
    points[which < 0.12] = rng.choice([ord(each) for each in MOVING], int(np.count_nonzero(which < 0.12)))
    points[which < 0.1] = ord(" ")
    points[(points >= 0xD800) & (points < 0xE000)] = ord("a")
    ends = np.cumsum(lengths)
    text = points.astype("<u4").tobytes().decode("utf-32-le")
    return [text[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def tokenizer_for(texts: Iterable[str], form: Form) -> Tokenizer:
    """One whose entries are the characters of those texts' words, so that nothing that befalls a word goes unseen."""
    characters = sorted({character for text in texts for word in words_of(text, form) for character in word})
    pieces = dict.fromkeys([*form.whole, *characters, "ab", "the", *(f"##{each}" for each in characters), "##ba"])
    tokenizer = make_tokenizer([*SPECIALS, *pieces], form)
    tokenizer.encode_special_tokens = True
    return tokenizer


def words_of(text: str, form: Form) -> list[str]:
    """A text's words, where no tokens are kept whole."""
    normal = bert_normalizer(form.lowercase, form.strip_accents).normalize_str(text)
    return [word for word, _ in bert_pre_tokenizer().pre_tokenize_str(normal)]


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [each.ids for each in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def plain_counts(texts: Iterable[str], form: Form) -> tuple[Counter[str], int, int]:
    """Words; and how many are too long, and how many tokens were kept whole."""
    words, long, kept = Counter[str](), 0, 0
    seeker = make_tokenizer(SPECIALS, form)  # it knows no words, so that what it finds are tokens kept whole
    seeker.encode_special_tokens = True
    for text in texts:
        for is_kept, piece in _parted(text, form, seeker):
            kept += is_kept
            found = [] if is_kept else words_of(piece, form)
            words.update(word for word in found if len(word) <= LONGEST_WORD)
            long += sum(len(word) > LONGEST_WORD for word in found)
    return words, long, kept


def _parted(text: str, form: Form, seeker: Tokenizer) -> Iterator[tuple[bool, str]]:
    """Tokens kept whole, and the text between them."""
    at = 0
    encoding = seeker.encode(text, add_special_tokens=False)
    for token, (start, stop) in zip(encoding.tokens, encoding.offsets, strict=True):
        if token in form.whole:
            yield False, text[at:start]
            yield True, token
            at = stop
    yield False, text[at:]
