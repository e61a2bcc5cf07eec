"""The tokenizer that a vocabulary makes, in the files that `tokenizers` and `transformers` read.

BERT's own: clean, part Chinese characters, lowercase and strip accents where asked; part at blanks and punctuation;
take the longest match from the left (google-research/bert, tokenization.py). It depends on the vocabulary alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.store import Artifact, Store
from pipeline.vocabulary.wordpiece import CONTINUES, SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST_WORD = 100
"""Characters; a longer word is [UNK], as in the reference."""
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def load_tokenizer(store: Store, vocabulary: Artifact) -> "Tokenizer":
    """The vocabulary's tokenizer, to which a special token that is written out in a text is text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(store.file(vocabulary, "tokenizer.json")))
    tokenizer.encode_special_tokens = True
    return tokenizer


def bert_normalizer(lowercase: bool, strip_accents: bool | None) -> Any:
    """BERT's normalisation; `strip_accents` None strips where `lowercase` does."""
    from tokenizers.normalizers import BertNormalizer

    return BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase)


def bert_pre_tokenizer() -> Any:
    """BERT's words: runs between blanks and punctuation."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    return BertPreTokenizer()


def make_tokenizer(
    vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool | None, whole: Sequence[str] = ()
) -> "Tokenizer":
    """A tokenizer whose ids are the places in `vocabulary`, and which frames texts with [CLS] and [SEP].

    Entries named in `whole` are found in a text as they are written, before anything else is done to it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab=ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=CONTINUES
        )
    )
    tokenizer.normalizer = bert_normalizer(lowercase, strip_accents)
    tokenizer.pre_tokenizer = bert_pre_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUES)
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    return tokenizer


def write_tokenizer_files(
    folder: Path,
    vocabulary: Sequence[str],
    *,
    lowercase: bool,
    strip_accents: bool | None,
    whole: Sequence[str] = (),
) -> None:
    """Write what AutoTokenizer, BertTokenizer and `tokenizers` load: `TOKENIZER_FILES`."""
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIALS}
    config = names | {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": 512,
    }
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    tokenizer = make_tokenizer(vocabulary, lowercase=lowercase, strip_accents=strip_accents, whole=whole)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
