"""Words are counted as BERT parts them, and the counts of shards add up."""

from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.cleaning import normalised
from pipeline.vocabulary.counting import count_words, read_counts, write_counts
from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer


def test_words_are_parted_at_blanks_punctuation_and_chinese_characters() -> None:
    counts = count_words(["The mill's\tmill, Chloë!", "河水流過mill"], lowercase=True, strip_accents=None)
    assert counts == Counter("the mill ' s mill , chloe ! 河 水 流 過 mill".split())


def test_case_and_accents_stay_where_the_config_says() -> None:
    assert count_words(["Chloë"], lowercase=False, strip_accents=None) == {"Chloë": 1}
    assert count_words(["Chloë"], lowercase=True, strip_accents=False) == {"chloë": 1}
    assert count_words(["Chloë"], lowercase=False, strip_accents=True) == {"Chloe": 1}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("aB é,.'-\n\t\u0301\x0b\x1c\x85\u00a0\u2028河水İ") | st.characters(codec="utf-8")))
)
def test_counting_a_corpus_by_run_is_counting_its_whole_texts(texts: list[str]) -> None:
    texts = [normalised(text) for text in texts]  # a corpus has no others
    whole: Counter[str] = Counter()
    for text in texts:
        normal = bert_normalizer(True, None).normalize_str(text)
        whole.update(word for word, _ in bert_pre_tokenizer().pre_tokenize_str(normal))
    assert count_words(texts, lowercase=True, strip_accents=None) == whole


def test_a_file_of_counts_reads_back_and_is_the_same_in_any_order(tmp_path: Path) -> None:
    counts = Counter({"mill": 3, "河": 1 << 63, "a": 1})
    write_counts(tmp_path / "one", counts)
    write_counts(tmp_path / "two", Counter(dict(reversed(counts.items()))))
    assert dict(read_counts(tmp_path / "one")) == counts
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
