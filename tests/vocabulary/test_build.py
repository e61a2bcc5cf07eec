"""The stage learns a vocabulary: named tokens, layouts, what is stored and what never is, what is refused."""

from pathlib import Path

import pytest

from pipeline.config import Plug
from pipeline.errors import ConfigError, InputError
from pipeline.store import Artifact, Recipe, Store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.counts import read_counts
from pipeline.vocabulary.tokenizer import load_ids, load_tokenizer
from tests.artifacts import keys
from tests.maps import forbidden
from tests.texts import corpus, rows
from tests.vocabulary.made import card, config, document, documents, made_corpus, sided, tokens


def test_a_finished_vocabulary_is_found_and_another_size_counts_nothing_again(any_store: Store, tmp_path: Path) -> None:
    of = made_corpus(any_store, tmp_path, documents_per_shard=20)
    made = build_vocabulary(config(), of, store=any_store)
    assert build_vocabulary(config(), of, store=any_store, map=forbidden) == made
    counted = keys(any_store, "parts/vocabulary/")
    smaller = build_vocabulary(config(size=70), of, store=any_store)
    assert keys(any_store, "parts/vocabulary/") == counted
    assert tokens(any_store, smaller) == tokens(any_store, made)[:70]
    assert len(tokens(any_store, made)) <= 90


def test_the_card_says_which_share_of_heldout_tokens_is_unknown(store: Store, tmp_path: Path) -> None:
    train = [document(group, f"mill river mill river {number % 2}") for number, group in enumerate(sided(False, 10))]
    train = [row | {"text": row["text"] + f" {row['id']}"} for row in train]
    held = [
        document(group, text) for group, text in zip(sided(True, 3), ["mill river ☃", "river ☃ ☃ mill", "mill, mill"])
    ]
    made = build_vocabulary(config(size=60, min_frequency=1), made_corpus(store, tmp_path, train + held), store=store)
    assert {"mill", "river"} <= set(tokens(store, made))
    assert "☃" not in tokens(store, made), "held-out text teaches nothing"
    found = card(store, made)
    # mill river [UNK], river [UNK] [UNK] mill, mill [UNK] mill: 10 tokens, of which 4 unknown; 10 words.
    assert found["heldout_documents"] == 3
    assert found["heldout_tokens"] == 10
    assert found["unknown_rate"] == pytest.approx(0.4)
    assert found["pieces_per_word"] == pytest.approx(1.0)
    assert found["characters_per_token"] == pytest.approx(len("millriver☃river☃☃millmill,mill") / 10)
    assert found["size"] == len(tokens(store, made))
    assert found.pop("dropped_characters") == [{"character": "☃", "count": 3}, {"character": ",", "count": 1}]
    assert found.pop("split_words") == []
    assert store.manifest(made).metrics == found


def test_tokens_that_stand_for_masked_text_are_kept_whole(store: Store, tmp_path: Path) -> None:
    given = [row | {"text": f"{row['text']} Write to m{number}@mill.org."} for number, row in enumerate(rows(60))]
    filters = (
        Plug(name="normalise"),
        Plug(name="mask_identifiers", kinds=["email"], patterns={"SACK": "[0-9]+ sacks"}),
    )
    of = made_corpus(store, tmp_path, given, filters=filters)
    made = build_vocabulary(config(), of, store=store)
    assert tokens(store, made)[5:7] == ["[EMAIL]", "[SACK]"]
    assert "[" not in tokens(store, made), "the tokens teach no word"
    tokenizer = load_tokenizer(store, made)
    encoding = tokenizer.encode("mill[EMAIL], [SACK] [email]", add_special_tokens=False)
    assert encoding.ids[1] == 5
    assert encoding.tokens[3] == "[SACK]"
    assert encoding.tokens.count("[EMAIL]") == 1


def test_chinese_characters_are_entries_of_their_own(store: Store, tmp_path: Path) -> None:
    given = [document(f"g{number}", f"河水流過磨坊mill{number}。") for number in range(40)]
    made = build_vocabulary(config(), made_corpus(store, tmp_path, given), store=store)
    found = set(tokens(store, made))
    assert set("河水流過磨坊。") <= found
    assert "mill" in found
    assert not [token for token in found if len(token) > 1 and set(token) & set("河水流過磨坊。")]


def test_a_size_that_can_not_hold_the_alphabet_publishes_nothing(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    with pytest.raises(ConfigError, match=r"size is 16, but .* are 60 entries: that is the smallest possible size"):
        build_vocabulary(config(size=16), of, store=store)
    assert [manifest.kind for manifest in store.versions()] == ["corpus"]


def test_a_minimum_that_leaves_nothing_gives_the_specials_alone(store: Store, tmp_path: Path) -> None:
    made = build_vocabulary(config(min_frequency=10**6), made_corpus(store, tmp_path), store=store)
    assert tokens(store, made) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert store.manifest(made).metrics["unknown_rate"] == 1.0


def test_the_vocabulary_is_made_from_that_corpus(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    assert store.parent(build_vocabulary(config(), of, store=store), "corpus") == of


def test_the_likelihood_objective_learns_another_vocabulary_that_knows_the_text_as_well(
    store: Store, tmp_path: Path
) -> None:
    of = made_corpus(store, tmp_path)
    bpe, likely = (build_vocabulary(config(objective=each, size=75), of, store=store) for each in ("bpe", "wordpiece"))
    assert len(tokens(store, bpe)) == len(tokens(store, likely)) == 75
    assert {*tokens(store, bpe)} != {*tokens(store, likely)}
    assert [store.manifest(each).metrics["unknown_rate"] for each in (bpe, likely)] == [0.0, 0.0]


def test_tokens_that_are_a_word_are_entries_and_others_are_found_as_they_are_written(
    store: Store, tmp_path: Path
) -> None:
    of = made_corpus(store, tmp_path)
    named = ("Myocardium", "HbA1c", "New York", "T-cell", "心筋")
    made = build_vocabulary(config(size=100, tokens=named), of, store=store)
    # "hba1c" and "myocardium" as the text has them once it is lowercased.
    assert tokens(store, made)[5:10] == ["New York", "T-cell", "心筋", "myocardium", "hba1c"]
    encoded = load_tokenizer(store, made).encode(
        "MYOCARDIUM hba1C in New York, T-cells of 心筋", add_special_tokens=False
    )
    assert [token for token in encoded.tokens if token in tokens(store, made)[5:10]] == [
        *("myocardium", "hba1c", "New York", "T-cell", "心筋")
    ]
    assert "New York" not in load_tokenizer(store, made).encode("new york").tokens


def test_words_within_tokens_found_as_written_teach_nothing(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path, documents(["New Mill ran New Mill"], ["New Mill"]))
    made = build_vocabulary(config(tokens=("New Mill",), min_frequency=1), of, store=store)
    assert tokens(store, made)[5:] == ["New Mill", *"anr", "##a", "##n", "##r", "ra", "ran"]
    assert store.manifest(made).metrics["pieces_per_word"] == 1.0


def test_a_token_that_is_a_special_is_refused(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    with pytest.raises(ConfigError, match=r"vocabulary.tokens has \[CLS\], which is a special token already"):
        build_vocabulary(config(tokens=("mill", "[CLS]")), of, store=store)


def test_googles_layout_gives_its_ids_and_keeps_its_slots_free(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    made = build_vocabulary(config(size=200, layout="google", unused=110, tokens=("Mill",)), of, store=store)
    tokenizer = load_tokenizer(store, made)
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert [tokenizer.token_to_id(token) for token in specials] == [0, 100, 101, 102, 103]
    assert tokenizer.encode("mill ☃").ids == [101, 115, 100, 102]
    assert store.manifest(made).metrics["free_slots"] == 110
    with pytest.raises(
        ConfigError, match=r"size is 110, but specials, free slots and tokens \(115\) .* are [0-9]+ entries"
    ):
        build_vocabulary(config(size=110, layout="google", unused=110), of, store=store)


# What is stored


def test_ids_are_read_as_the_tokenizer_has_them_with_tokens_kept_whole(store: Store, tmp_path: Path) -> None:
    for layout, unused in (("compact", 3), ("google", 110)):
        asked = config(size=200, layout=layout, unused=unused, tokens=("Mill", "New York", "[NAME]"))
        made = build_vocabulary(asked, made_corpus(store, tmp_path), store=store)
        assert load_ids(store, made) == load_tokenizer(store, made).get_vocab()


def counted_words(store: Store, made: Artifact) -> set[str]:
    return {*read_counts(store.file(made, "counts.arrow")).words()}


@pytest.mark.parametrize(
    ("restricted", "min_groups", "is_kept"), [(False, 1, True), (True, 1, False), (True, 2, True), (False, 2, True)]
)
def test_counts_are_kept_unless_they_would_show_a_restricted_text(
    store: Store, tmp_path: Path, restricted: bool, min_groups: int, is_kept: bool
) -> None:
    of = made_corpus(store, tmp_path, restricted=restricted)
    made = build_vocabulary(config(min_groups=min_groups), of, store=store)
    assert bool(store.manifest(made).matching("counts.arrow")) is is_kept
    if is_kept:
        assert "mill" in counted_words(store, made)


def test_a_corpus_that_becomes_restricted_does_not_find_the_vocabulary_that_shows_its_text(
    store: Store, tmp_path: Path
) -> None:
    free = build_vocabulary(config(), made_corpus(store, tmp_path), store=store)
    restricted = build_vocabulary(config(), made_corpus(store, tmp_path, restricted=True), store=store)
    assert restricted.version != free.version
    assert tokens(store, restricted) == tokens(store, free)
    assert {*card(store, free)} - {*card(store, restricted)} == {"split_words", "dropped_characters"}


def test_a_name_of_fewer_groups_than_the_minimum_stands_nowhere_in_the_artifact(store: Store, tmp_path: Path) -> None:
    train = ["the mill of Zebedee"] * 2 + ["the mill"] * 5
    given = documents(train, ["Zebedee"] * 2)
    given += [given[0] | {"id": f"again{number}", "text": f"Zebedee Zebedee {number}"} for number in range(9)]
    of = made_corpus(store, tmp_path, given, deduplication={"exact": False})
    for min_groups, stands in ((2, True), (3, False)):
        made = build_vocabulary(config(min_groups=min_groups), of, store=store)
        words = counted_words(store, made)
        assert ("zebedee" in words) is stands
        assert {"the", "mill"} <= words
        names = [entry.path for entry in store.manifest(made).files]
        texts = [store.file(made, name).read_bytes().lower() for name in names if name != "counts.arrow"]
        assert len(texts) == 5
        assert any(b"zebedee" in text for text in texts) is stands
        totals = store.manifest(made).totals
        assert (totals["rare_words"] > 0, totals["rare_occurrences"] > 20) == (True, not stands)


# What is refused


def test_a_minimum_of_groups_that_no_word_reaches_is_told(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path, documents(["mill"] * 2, ["mill"]), deduplication={"exact": False})
    with pytest.raises(InputError, match=r"corpus/small@\w+ has no words that stand in 3 groups to learn a vocabulary"):
        build_vocabulary(config(min_groups=3), of, store=store)


def test_a_corpus_without_a_train_part_is_told(store: Store, tmp_path: Path) -> None:
    full = made_corpus(store, tmp_path)
    heldout = store.manifest(full).matching("heldout/")
    with store.draft(Recipe("corpus", corpus(name="empty"), 1)) as draft:
        for entry in heldout:
            draft.include(entry, entry.path)
        empty = draft.commit(totals={})
    with pytest.raises(InputError, match=r"corpus/empty@\w+ has no words to learn a vocabulary from"):
        build_vocabulary(config(), empty, store=store)


@pytest.mark.parametrize(
    ("lang", "text", "sentence"),
    [
        ("zh", "the mill " * 20 + "河", "its 1,410 letters 10 are Han; most are Latin"),
        ("en", "河水流過磨坊", "its 60 letters 0 are Latin; most are Han"),
        ("ja", "the mill", "its 70 letters 0 are Han or Hiragana or Katakana; most are Latin"),
    ],
)
def test_a_corpus_of_another_script_than_its_languages_is_refused(
    store: Store, tmp_path: Path, lang: str, text: str, sentence: str
) -> None:
    of = made_corpus(store, tmp_path, documents([text] * 10, [text]), lang=lang, deduplication={"exact": False})
    with pytest.raises(InputError) as error:
        build_vocabulary(config(), of, store=store)
    assert f"is {lang}, but of {sentence}. Give the corpus its language, [corpus] lang" in str(error.value)
    assert [manifest.kind for manifest in store.versions()] == ["corpus"]


def test_a_text_in_two_scripts_is_of_either_language(store: Store, tmp_path: Path) -> None:
    given = documents(["the mill 河水流過磨坊"] * 2, ["河"])
    for lang in ("en", "zh"):
        assert build_vocabulary(config(min_frequency=1), made_corpus(store, tmp_path, given, lang=lang), store=store)


def test_a_language_whose_script_is_not_known_is_not_judged(store: Store, tmp_path: Path) -> None:
    assert build_vocabulary(config(), made_corpus(store, tmp_path, lang="tlh"), store=store)
