"""The tokenizer that a vocabulary makes, in the files that `tokenizers` and `transformers` read.

BERT's own: clean, part Chinese characters, lowercase and strip accents where asked; part at blanks and punctuation;
take the longest match from the left (google-research/bert, tokenization.py). It depends on the vocabulary alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store import Artifact, Store
from pipeline.vocabulary.layout import CONTINUES, LONGEST_WORD, SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Form:
    """What is done to a text before its words are looked up."""

    lowercase: bool = True
    strip_accents: bool | None = None
    """None strips them where `lowercase` does, as google-research/bert."""
    whole: tuple[str, ...] = ()
    """Tokens that are found in a text as they are written, before anything else is done to it, and kept whole."""

    @property
    def identity(self) -> dict[str, Any]:
        """What of it counts; without tokens kept whole none are named."""
        return {key: value for key, value in asdict(self).items() if key != "whole" or value}


def load_tokenizer(store: Store, vocabulary: Artifact) -> "Tokenizer":
    """The vocabulary's tokenizer, to which a special token that is written out in a text is text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(store.file(vocabulary, "tokenizer.json")))
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_ids(store: Store, vocabulary: Artifact) -> dict[str, int]:
    """Each entry's id: the tokenizer's `get_vocab()`, without making one."""
    return ids_of(json.loads(store.file(vocabulary, "tokenizer.json").read_text(encoding="utf-8")))


def ids_of(form: dict[str, Any]) -> dict[str, int]:
    """Each entry's id in a tokenizer that is given as its JSON, the added tokens' too."""
    ids: dict[str, int] = form["model"]["vocab"]
    return ids | {each["content"]: each["id"] for each in form["added_tokens"]}


def load_form(store: Store, vocabulary: Artifact) -> Form:
    """How a text is read by a vocabulary of the store."""
    form = json.loads(store.file(vocabulary, "tokenizer.json").read_text(encoding="utf-8"))
    whole = tuple(each["content"] for each in form["added_tokens"] if not each["special"])
    return Form(form["normalizer"]["lowercase"], form["normalizer"]["strip_accents"], whole)


def bert_normalizer(lowercase: bool, strip_accents: bool | None) -> Any:
    """BERT's normalisation; `strip_accents` None strips where `lowercase` does."""
    from tokenizers.normalizers import BertNormalizer

    return BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase)


def bert_pre_tokenizer() -> Any:
    """BERT's words: runs between blanks and punctuation."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return BertPreTokenizer()


def split_tokens(tokens: Sequence[str], lowercase: bool, strip_accents: bool | None) -> tuple[list[str], list[str]]:
    """Tokens that are one word, as that word; and those that must be found as they are written."""
    normalizer, pre_tokenizer = bert_normalizer(lowercase, strip_accents), bert_pre_tokenizer()
    words, whole = dict[str, None](), list[str]()
    for token in tokens:
        parts = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(token))
        if len(parts) == 1 and len(parts[0][0]) <= LONGEST_WORD:
            words[parts[0][0]] = None
        else:
            whole.append(token)
    return list(words), whole


def make_tokenizer(vocabulary: Sequence[str], form: Form) -> "Tokenizer":
    """A tokenizer whose ids are the places in `vocabulary`, and which frames texts with [CLS] and [SEP]."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab=ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=CONTINUES
        )
    )
    tokenizer.normalizer = bert_normalizer(form.lowercase, form.strip_accents)
    tokenizer.pre_tokenizer = bert_pre_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in form.whole])
    return tokenizer


def write_tokenizer_files(folder: Path, vocabulary: Sequence[str], form: Form) -> None:
    """Write what AutoTokenizer, BertTokenizer and `tokenizers` load: `TOKENIZER_FILES`."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIALS}
    config = names | {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": form.lowercase,
        "strip_accents": form.strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": 512,
        "added_tokens_decoder": {str(ids[token]): _added(token) for token in (*SPECIALS, *form.whole)},
    }
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    tokenizer = make_tokenizer(vocabulary, form)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _added(token: str) -> dict[str, Any]:
    """A token that is matched as it is written, as transformers' tokenizers in Python read it."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, "special": token in SPECIALS} | flags
