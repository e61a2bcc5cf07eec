"""Words are counted as BERT parts them, exactly, whatever spills, and however the corpus is parted into shards."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.document import Document
from pipeline.corpus.shards import batch_of, shard_sink
from pipeline.settings import Settings
from pipeline.store import FileEntry, Part, PartDraft, Store, open_store
from pipeline.vocabulary import counting as module
from pipeline.vocabulary.counting import count_shard, count_words, merge_counts
from pipeline.vocabulary.counts import CountsWriter, WordCounts, read_counts
from pipeline.vocabulary.layout import LONGEST_WORD
from pipeline.vocabulary.tokenizer import Form
from tests.dataset.byhand import Watched
from tests.maps import MAPS, map_named
from tests.vocabulary.oracle import FORMS, KEPT, TEXTS, plain_counts, random_texts, words_of

Grouped = Sequence[tuple[str, str]]
"""Texts, each with its group."""


def shard(store: Store, documents: Grouped) -> FileEntry:
    with PartDraft(store) as draft:
        with shard_sink(draft.folder / "train/00000.arrow") as sink:
            for n, (text, group) in enumerate(documents):
                sink.write_batch(batch_of([Document(f"d{n}", text, "mine", "en", group, "")]))
        return draft.add("train/00000.arrow", rows=len(documents))


def shards(store: Store, texts: Sequence[str], size: int = 3) -> list[FileEntry]:
    """Shards of so many texts, each of which is its own group."""
    documents = [(text, f"g{number}") for number, text in enumerate(texts)]
    return [shard(store, documents[at : at + size]) for at in range(0, len(documents), size)]


def counted(store: Store, part: Part) -> dict[str, int]:
    (entry,) = part.files
    counts = list(read_counts(store.blob(entry)))
    assert entry.rows == len(counts)
    assert counts == sorted(counts, key=lambda each: each[0].encode())
    return dict(counts)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of 50 words, buffers of a few, and merges of two files."""
    for name, size in {"TABLE_WORDS": 50, "NUMBERS": 7, "ASKED": 2, "FAN_IN": 2}.items():
        monkeypatch.setattr(module, name, size)


@pytest.fixture(scope="module")
def kept_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for all examples of a property."""
    home = tmp_path_factory.mktemp("home")
    return open_store(Settings.from_environment({"BERTMILL_HOME": str(home)}))


def test_words_are_parted_at_blanks_punctuation_and_chinese_characters(store: Store) -> None:
    part = count_words(shards(store, ["The mill's\tmill, Chloë!", "河水流過mill"]), Form(), store=store)
    assert counted(store, part) == Counter("the mill ' s mill , chloe ! 河 水 流 過 mill".split())
    visible = len("Themill'smill,Chloë!河水流過mill")
    assert part.record == {
        "documents": 2,
        "words": 13,
        "characters": visible,
        "long": 0,
        "kept": 0,
        "rare_words": 0,
        "rare_occurrences": 0,
    }


@pytest.mark.parametrize(
    ("form", "word"),
    [("uncased", "chloe"), ("cased", "Chloë"), ("accents kept", "chloë"), ("cased without accents", "Chloe")],
)
def test_case_and_accents_stay_where_the_form_says(store: Store, form: str, word: str) -> None:
    assert counted(store, count_words(shards(store, ["Chloë"]), FORMS[form], store=store)) == {word: 1}


def test_words_too_long_and_tokens_kept_whole_are_counted_apart(store: Store) -> None:
    texts = ["a" * LONGEST_WORD, "b" * (LONGEST_WORD + 1), "c\u302e" * LONGEST_WORD, "mail [EMAIL]mail ab\u302e"]
    part = count_words(shards(store, texts), Form(whole=("[EMAIL]", "ab")), store=store)
    assert counted(store, part) == {"a" * LONGEST_WORD: 1, "mail": 2, "\u302e": 1}
    assert (part.record["words"], part.record["long"], part.record["kept"]) == (4, 2, 2)


def check(store: Store, texts: Sequence[str], form: Form, size: int) -> None:
    part = count_words(shards(store, texts, size), form, store=store)
    words, long, kept = plain_counts(texts, form)
    assert counted(store, part) == words
    assert part.record["documents"] == len(texts)
    assert [part.record[name] for name in ("words", "long", "kept")] == [words.total(), long, kept]


@settings(max_examples=40, deadline=None)
@given(TEXTS.filter(len), st.integers(1, 3), st.sampled_from([(), KEPT]), st.sampled_from(list(FORMS.values())))
def test_counts_of_nasty_texts_are_those_of_tokenizers(
    kept_store: Store, texts: list[str], size: int, whole: tuple[str, ...], form: Form
) -> None:
    check(kept_store, texts, Form(form.lowercase, form.strip_accents, whole), size)


@pytest.mark.parametrize("whole", [(), KEPT], ids=["none kept", "kept"])
def test_counts_are_exact_where_tables_spill_and_merges_are_of_two(
    store: Store, tiny: None, whole: tuple[str, ...]
) -> None:
    many = [f"w{number} v{number % 70} x\u302e{number % 40}" for number in range(200)]
    check(store, [" ".join(many), "", *random_texts(11, 60), " ".join(many[::-1])], Form(whole=whole), 13)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("min_groups", [1, 3])
def test_the_file_is_the_same_however_the_corpus_is_parted_and_mapped(store: Store, name: str, min_groups: int) -> None:
    texts = ["the river and the mill", "", "the mill\u302e", "rivers run", *random_texts(5, 20), "the river", "a mill"]
    whole = count_words(shards(store, texts, 99), Form(), min_groups=min_groups, store=store)
    with map_named(name) as mapped:
        for size in (1, 4):
            entries = shards(store, texts, size)[::-1]
            part = count_words(entries, Form(), min_groups=min_groups, store=store, map=mapped)
            assert part.files[0].sha256 == whole.files[0].sha256
            assert part.record == whole.record


SPREAD = [
    [("rare common once", "ann"), ("rare common", "ann"), ("pair", "bob")],
    [("rare common", "ann"), ("pair common", "cyd")],
    [("rare common", "bob"), ("pair\u302e", "dan")],
]


@pytest.mark.parametrize("order", [1, -1])
def test_a_group_that_is_spread_over_shards_counts_once(store: Store, order: int) -> None:
    entries = [shard(store, documents) for documents in SPREAD][::order]
    part = count_words(entries, Form(), min_groups=3, store=store)
    assert counted(store, part) == {"common": 5}, (
        "rare is of ann and bob; pair of bob and cyd, in pair\u302e of dan too"
    )
    assert (part.record["rare_words"], part.record["rare_occurrences"]) == (4, 8)
    assert part.record["words"] == 13


def test_a_group_counts_once_however_often_a_word_stands_in_it(store: Store) -> None:
    entries = [shard(store, [("mill x\u302e mill x\u302e", "ann"), ("x\u302e mill the", "ann"), ("the", "bob")])]
    part = count_words(entries, Form(), min_groups=2, store=store)
    assert counted(store, part) == {"the": 2}
    assert (part.record["rare_words"], part.record["rare_occurrences"]) == (2, 6)


def test_a_word_of_one_group_too_few_stands_nowhere_in_the_file(store: Store) -> None:
    entries = [shard(store, documents) for documents in SPREAD]
    two = count_words(entries, Form(), min_groups=2, store=store)
    assert set(counted(store, two)) == {"rare", "common", "pair"}
    three = count_words(entries, Form(), min_groups=3, store=store)
    (entry,) = three.files
    with pa.memory_map(str(store.blob(entry))) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.column_names == ["word", "count"], "nor is there any group"
    assert all(b"rare" not in buffer.to_pybytes() for buffer in table["word"].chunk(0).buffers() if buffer)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abc é", max_size=12) | st.sampled_from(["a\u302e b", "b\u302e"]), st.sampled_from("ABCDEF")),
        min_size=1,
        max_size=12,
    ),
    st.integers(2, 5),
    st.integers(1, 4),
    st.booleans(),
)
def test_minimum_groups_is_exact_across_shards(
    kept_store: Store, documents: list[tuple[str, str]], least: int, size: int, spills: bool
) -> None:
    owners, words = dict[str, set[str]](), Counter[str]()
    for text, group in documents:
        for word in words_of(text, Form()):
            owners.setdefault(word, set()).add(group)
            words[word] += 1
    expected = {word: count for word, count in words.items() if len(owners[word]) >= least}
    with pytest.MonkeyPatch.context() as patch:
        if spills:
            patch.setattr(module, "TABLE_WORDS", 26)
            patch.setattr(module, "FAN_IN", 2)
        entries = [shard(kept_store, documents[at : at + size]) for at in range(0, len(documents), size)]
        part = count_words(entries, Form(), min_groups=least, store=kept_store)
    assert counted(kept_store, part) == expected
    assert part.record["rare_words"] == len(words) - len(expected)
    assert part.record["rare_occurrences"] == words.total() - sum(expected.values())
    assert part.record["words"] == words.total()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_minimum_groups_holds_where_every_table_spills(store: Store, tiny: None, size: int) -> None:
    texts = [" ".join(f"w{n} a\u302e{n}" for n in range(300) if n % 7 >= group) for group in range(7)]
    documents = [(text, f"g{group}") for group, text in enumerate(texts)]
    entries = [shard(store, documents[at : at + size] * 2) for at in range(0, 7, size)]
    for least in (2, 6, 7):
        part = count_words(entries, Form(), min_groups=least, store=store)
        enough = {n: 2 * (n % 7 + 1) for n in range(300) if n % 7 + 1 >= least}
        assert counted(store, part) == {f"{word}{n}": count for word in ("w", "a\u302e") for n, count in enough.items()}


def test_what_was_counted_is_not_counted_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAN_IN", 2)
    store = Watched(store.settings)
    entries = shards(store, [f"the mill {number}" for number in range(8)], 1)
    for entry in entries[:3]:  # as a run leaves it that was killed after three shards
        count_shard(entry, form=Form(), groups=0, store=store)
    assert len(store.made_since()) == 3
    first = count_words(entries, Form(), store=store)
    assert len(store.made_since()) == 5 + 4 + 2 + 1, "the other shards, and the tree of merges above all"
    assert count_words(entries, Form(), store=store) == first
    assert store.made_since() == []
    more = [*entries[:7], *shards(store, ["a river"])]
    assert counted(store, count_words(more, Form(), store=store))["mill"] == 7
    assert len(store.made_since()) == 1 + 3, "the new shard, and the merges above it"


def test_a_shard_that_was_killed_is_counted_anew(store: Store, tiny: None) -> None:
    texts = [" ".join(f"w{number}" for number in range(120)), "w1 w2"]
    entries = shards(store, texts)

    def killed(table: Any) -> int:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Table, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            count_words(entries, Form(), store=store)
    assert counted(store, count_words(entries, Form(), store=store)) == plain_counts(texts, Form())[0]


def large(store: Store, number: int, count: int) -> FileEntry:
    """A stored file of counts."""
    with PartDraft(store) as draft:
        with CountsWriter(draft.folder / "counts.arrow") as writer:
            writer.write(WordCounts.of({"the": count, f"w{number}": 1}))
        return draft.add("counts.arrow", rows=2)


def test_counts_beyond_32_bits_stay_exact(store: Store) -> None:
    entries = tuple(large(store, number, count) for number, count in enumerate([(1 << 32) - 1, 7, 1 << 40]))
    assert counted(store, merge_counts(entries, store=store))["the"] == (1 << 40) + (1 << 32) + 6
