"""A vocabulary that is there, through the stage: imported as it is, or extended by the words of a corpus."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import BaseVocabulary, ExistingVocabulary, Plug
from pipeline.errors import ConfigError, InputError
from pipeline.preset import load_preset
from pipeline.stages import check_preset, run_stage
from pipeline.store import Store
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.layout import SPECIALS
from pipeline.vocabulary.tokenizer import load_form, load_tokenizer
from tests.maps import forbidden
from tests.texts import lines, rows, write
from tests.vocabulary.made import card, config, documents, made_corpus, tokens

LETTERS = "abcdefghiklmnorstuvxz0123456789."
OLD = ["[PAD]", "[unused0]", "[unused1]", *SPECIALS[1:], *LETTERS, *(f"##{each}" for each in LETTERS), "river", "##ill"]


def base(vocabulary: object, new_words: Any = "none", **more: Any) -> BaseVocabulary:
    return BaseVocabulary(vocabulary=str(vocabulary), new_words=new_words, **more)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write(tmp_path / "google" / "vocab.txt", "\r\n".join(OLD))


def test_an_imported_file_keeps_its_ids_counts_no_words_and_has_a_card(store: Store, tmp_path: Path, old: Path) -> None:
    of = made_corpus(store, tmp_path)
    made = build_vocabulary(config(base=base(old), size=16), of, store=store)
    assert tokens(store, made) == OLD
    assert store.file(made, "vocab.txt").read_bytes() == "".join(f"{entry}\n" for entry in OLD).encode()
    assert [entry.path for entry in store.manifest(made).matching("counts.arrow")] == []
    encoded = load_tokenizer(store, made).encode("The river's mill")
    assert encoded.ids == [OLD.index(each) for each in encoded.tokens]
    assert encoded.tokens == ["[CLS]", *"t ##h ##e river [UNK] s m ##ill".split(), "[SEP]"]
    assert (card(store, made)["free_slots"], card(store, made)["unknown_rate"]) == (2, 0.0)
    assert build_vocabulary(config(base=base(old), size=16), of, store=store, map=forbidden) == made


def test_a_changed_file_makes_another_version_and_a_moved_one_does_not(store: Store, tmp_path: Path, old: Path) -> None:
    of = made_corpus(store, tmp_path)
    made = build_vocabulary(config(base=base(old)), of, store=store)
    moved = write(tmp_path / "elsewhere" / "other.txt", old.read_bytes())
    assert build_vocabulary(config(base=base(moved)), of, store=store) == made
    write(moved, old.read_text() + "\nmill")
    changed = build_vocabulary(config(base=base(moved)), of, store=store)
    assert changed.version != made.version
    assert tokens(store, changed) == [*OLD, "mill"]


def test_a_reference_that_changed_makes_another_version(store: Store, tmp_path: Path, old: Path) -> None:
    of = made_corpus(store, tmp_path)
    made = [build_vocabulary(config(), of, store=store)]
    for last in ("", "\nmill"):
        write(old, "\n".join(OLD) + last)
        made.append(build_vocabulary(config(compare=(ExistingVocabulary(vocabulary=str(old)),)), of, store=store))
    assert len({each.version for each in made}) == 3
    assert len({tuple(tokens(store, each)) for each in made}) == 1


def test_an_imported_artifact_is_a_parent_and_is_read_as_it_was_made(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    named = {"tokens": ("New York", "mill"), "lowercase": False}
    first = build_vocabulary(config(name="first", size=100, **named), of, store=store)
    made = build_vocabulary(config(base=base("vocabulary/first@latest")), of, store=store)
    assert store.parent(made, "vocabulary") == first
    assert store.parent(made, "corpus") == of
    assert tokens(store, made) == tokens(store, first)
    assert load_form(store, made) == load_form(store, first)
    assert load_form(store, made).whole == ("New York",)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "card.json"):
        assert store.file(made, name).read_bytes() == store.file(first, name).read_bytes()


@pytest.mark.parametrize("key", ["lowercase", "strip_accents"])
def test_an_artifact_is_not_read_otherwise_than_it_was_made(store: Store, tmp_path: Path, key: str) -> None:
    of = made_corpus(store, tmp_path)
    first = build_vocabulary(config(lowercase=True, strip_accents=True), of, store=store)
    assert build_vocabulary(config(base=base(first, **{key: True})), of, store=store)
    with pytest.raises(ConfigError, match=rf"{first} has {key} = True, and False was given. Leave the key out"):
        build_vocabulary(config(base=base(first, **{key: False})), of, store=store)


def test_a_malformed_file_is_told_and_publishes_nothing(store: Store, tmp_path: Path) -> None:
    of = made_corpus(store, tmp_path)
    twice = write(tmp_path / "vocab.txt", "\n".join([*SPECIALS, "mill", "mill"]))
    with pytest.raises(InputError, match=r"vocab.txt, line 7: the entry 'mill' stands on line 6 already"):
        build_vocabulary(config(base=base(twice)), of, store=store)
    assert [manifest.kind for manifest in store.versions()] == ["corpus"]


def test_an_extension_fills_the_free_slots_and_another_appends_to_it(store: Store, tmp_path: Path, old: Path) -> None:
    of = made_corpus(store, tmp_path)
    filled = build_vocabulary(config(base=base(old, "unused")), of, store=store)
    # All words stand once in a document: grinds, number and stands save five pieces each, sacks four, the two.
    expected = [*OLD]
    expected[1:3] = ["grinds", "number"]
    assert tokens(store, filled) == expected
    assert store.manifest(filled).matching("counts.arrow")
    more = build_vocabulary(config(base=base(filled, "append"), size=len(OLD) + 3), of, store=store)
    assert tokens(store, more)[: len(OLD)] == expected
    assert tokens(store, more)[len(OLD) :] == ["stands", "sacks", "the"]
    assert store.parent(more, "vocabulary") == filled
    fits = [store.manifest(each).metrics["pieces_per_word"] for each in (filled, more)]
    assert fits[0] > fits[1]


def test_an_extension_keeps_named_tokens_and_those_of_masked_text(store: Store, tmp_path: Path, old: Path) -> None:
    given = [row | {"text": f"{row['text']} Write to m{number}@mill.org."} for number, row in enumerate(rows(60))]
    filters = (Plug(name="normalise"), Plug(name="mask_identifiers", kinds=["email"]))
    of = made_corpus(store, tmp_path, given, filters=filters)
    named = ("Millstone", "New York", "river")
    made = build_vocabulary(config(base=base(old, "append"), size=200, tokens=named), of, store=store)
    assert tokens(store, made)[len(OLD) : len(OLD) + 3] == ["[EMAIL]", "New York", "millstone"]
    assert load_form(store, made).whole == ("[EMAIL]", "New York")
    assert not {"email", "["} & {*tokens(store, made)}
    encoded = load_tokenizer(store, made).encode("Millstones[EMAIL] New York", add_special_tokens=False)
    assert encoded.tokens == ["millstone", "##s", "[EMAIL]", "New York"]
    with pytest.raises(ConfigError, match=r"2 \[unused\] slots: there is no room for 3 tokens"):
        build_vocabulary(config(base=base(old, "unused"), tokens=named), of, store=store)
    imported = build_vocabulary(config(base=base(made)), of, store=store)
    assert load_form(store, imported) == load_form(store, made)


def test_an_import_keeps_the_tokens_of_masked_text_that_it_has(store: Store, tmp_path: Path) -> None:
    given = [row | {"text": f"{row['text']} m{number}@mill.org 12 sacks"} for number, row in enumerate(rows(60))]
    masks = Plug(name="mask_identifiers", kinds=["email"], patterns={"SACK": "[0-9]+ sacks"})
    of = made_corpus(store, tmp_path, given, filters=(Plug(name="normalise"), masks))
    file = write(tmp_path / "vocab.txt", "\n".join([*SPECIALS, "[EMAIL]", "mill"]))
    made = build_vocabulary(config(base=base(file)), of, store=store)
    assert load_form(store, made).whole == ("[EMAIL]",)
    assert tokens(store, made) == [*SPECIALS, "[EMAIL]", "mill"]


def test_words_of_fewer_groups_than_the_minimum_are_not_added(store: Store, tmp_path: Path, old: Path) -> None:
    of = made_corpus(store, tmp_path, documents(["mill Zebedee Zebedee Zebedee", "sacks of a mill"], ["mill"]))
    found = {
        least: tokens(store, build_vocabulary(config(base=base(old, "append"), min_groups=least), of, store=store))
        for least in (1, 2)
    }
    assert "zebedee" in found[1]
    assert found[2] == [*OLD, "mill"]


def test_an_extension_of_a_preset_runs_as_the_stage_does(store: Store, tmp_path: Path, old: Path) -> None:
    write(tmp_path / "mine.jsonl", lines(rows(60)))
    path = write(
        tmp_path / "mine.toml",
        """
        extends = "tiny"
        [corpus]
        name = "mine"
        sources = [{path = "mine.jsonl", format = "jsonl", name = "mine", licence = "own"}]
        [vocabulary]
        name = "mine"
        size = 90
        base = {vocabulary = "google", new_words = "append", lowercase = true}
        compare = [{vocabulary = "google/vocab.txt"}]
        """,
    )
    preset = load_preset(str(path))
    check_preset(preset, store)
    run_stage("corpus", preset, store)
    made = run_stage("vocabulary", preset, store)
    assert tokens(store, made)[: len(OLD)] == OLD
    assert len(tokens(store, made)) > len(OLD)
    beside = card(store, made)["beside"]["google"]
    assert beside["pieces_per_word"] > card(store, made)["pieces_per_word"]
    assert run_stage("vocabulary", preset, store, map=forbidden) == made
    old.unlink()
    with pytest.raises(ConfigError, match=r"There is no vocabulary at .*google"):
        check_preset(preset, store)
