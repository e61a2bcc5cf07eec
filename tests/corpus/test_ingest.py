"""Text in, clean documents out: each once, each group on one side, what was dropped counted, bad input told at once."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from pipeline.config import CorpusConfig, Plug
from pipeline.corpus import reading
from pipeline.corpus.document import Document, read_documents
from pipeline.corpus.ingest import ingest_corpus
from pipeline.corpus.inventory import InputFile
from pipeline.corpus.reading import is_heldout
from pipeline.errors import ConfigError, InputError
from pipeline.preset import load_preset
from pipeline.store import Artifact, Store
from pipeline.store.artifact import Input
from tests.artifacts import keys
from tests.maps import MAPS, forbidden, map_named
from tests.texts import SUFFIXES, corpus, lines, rows, source, write


def documents(store: Store, made: Artifact, split: str = "") -> list[Document]:
    entries = [entry for entry in store.manifest(made).matching(split) if entry.path.endswith(".arrow")]
    return [document for entry in entries for document in read_documents(store.blob(entry))]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_documents_come_out_as_their_source_has_them(any_store: Store, tmp_path: Path, suffix: str) -> None:
    given = rows(40)
    given[3] |= {"text": " The  mill of Chloe\u0308. ", "lang": "de", "date": "1790-01-08"}
    config = corpus(source(write(tmp_path / f"a.jsonl{suffix}", lines(given))))
    made = ingest_corpus(config, store=any_store)
    found = {document.id: document for document in documents(any_store, made)}
    assert set(found) == {f"mine/d{number}" for number in range(40)}
    assert found["mine/d3"] == Document("mine/d3", "The mill of Chloë.", "mine", "de", "g1", "1790-01-08")
    assert found["mine/d4"] == Document("mine/d4", given[4]["text"], "mine", "en", "g2", "")
    totals = any_store.manifest(made).totals
    assert totals["rows_read"] == 40
    assert sum(totals["documents"].values()) == 40
    assert totals["languages"] == {"de": 1, "en": 39}


def test_a_document_without_id_and_group_is_named_by_its_place_and_its_own_group(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n\n".join(f"mill {number}\nsecond line" for number in range(20)))
    found = documents(store, ingest_corpus(corpus(source(path, "text")), store=store))
    assert {document.id for document in found} == {f"mine/a.txt:{1 + 3 * number}" for number in range(20)}
    assert all(document.group == document.id for document in found)


def test_shards_hold_as_many_documents_as_the_config_says(store: Store, tmp_path: Path) -> None:
    config = corpus(source(write(tmp_path / "a.jsonl", lines(rows(40)))), documents_per_shard=6)
    made = ingest_corpus(config, store=store)
    for split in ("train", "heldout"):
        sizes = [entry.rows for entry in store.manifest(made).matching(f"{split}/")]
        assert sum(filter(None, sizes)) == store.manifest(made).totals["documents"][split]
        assert set(sizes[:-1]) == {6}
        assert 0 < (sizes[-1] or 0) <= 6


# Duplicates


def test_of_equal_texts_the_first_stays_and_the_others_are_counted(store: Store, tmp_path: Path) -> None:
    first, second = rows(20), rows(20, start=20)
    second[0]["text"] = first[0]["text"].upper()
    second[1]["text"] = first[1]["text"].replace(" ", "   ")
    second[2]["text"] = second[3]["text"]
    config = corpus(
        source(write(tmp_path / "one.jsonl", lines(first)), name="one"),
        source(write(tmp_path / "two.jsonl", lines(second)), name="two"),
    )
    made = ingest_corpus(config, store=store)
    found = {document.id: document.text for document in documents(store, made)}
    assert len(found) == 37
    assert found["one/d0"] == first[0]["text"]
    assert {"two/d20", "two/d21", "two/d23"}.isdisjoint(found)
    manifest = store.manifest(made)
    assert manifest.totals["dropped"] == {"duplicate text": 3}
    assert [each["documents"] for each in manifest.totals["sources"]] == [20, 17]
    report = json.loads(store.file(made, "dropped.json").read_text(encoding="utf-8"))
    assert [each["id"] for each in report["examples"]] == ["two/d20", "two/d21", "two/d23"]


def test_of_equal_ids_the_first_stays_and_the_others_are_counted(store: Store, tmp_path: Path) -> None:
    given = rows(20)
    given[9]["id"] = "d2"
    made = ingest_corpus(corpus(source(write(tmp_path / "a.jsonl", lines(given)))), store=store)
    assert store.manifest(made).totals["dropped"] == {"duplicate id": 1}
    (kept,) = [document for document in documents(store, made) if document.id == "mine/d2"]
    assert kept.text == given[2]["text"]


def test_documents_that_are_too_short_are_counted(store: Store, tmp_path: Path) -> None:
    given = [*rows(20), {"id": "s", "text": " \n\t "}, {"id": "t", "text": "short"}]
    path = write(tmp_path / "a.jsonl", lines(given))
    assert store.manifest(ingest_corpus(corpus(source(path)), store=store)).totals["dropped"] == {"too short": 1}
    made = ingest_corpus(corpus(source(path), min_characters=6), store=store)
    assert store.manifest(made).totals["dropped"] == {"too short": 2}


def test_no_text_of_a_restricted_corpus_leaves_its_shards(store: Store, tmp_path: Path) -> None:
    given = [*rows(20), {"id": "again", "text": rows(1)[0]["text"]}]
    path = write(tmp_path / "a.jsonl", lines(given))
    for restricted in (False, True):
        made = ingest_corpus(corpus(source(path), restricted=restricted), store=store)
        report = store.file(made, "dropped.json").read_text(encoding="utf-8")
        assert ("stands at the river" in report) is not restricted
        assert "duplicate text" in report
        assert "stands at the river" not in store.manifest(made).model_dump_json()


# The split


def test_a_group_stays_on_its_side_as_the_corpus_grows(store: Store, tmp_path: Path) -> None:
    sides: list[dict[str, str]] = []
    for count in (30, 60, 120):
        path = write(tmp_path / "a.jsonl", lines(rows(count, documents_of_a_group=3)))
        made = ingest_corpus(corpus(source(path)), store=store)
        sides.append({d.group: split for split in ("train", "heldout") for d in documents(store, made, f"{split}/")})
        assert sum(store.manifest(made).totals["groups"].values()) == count // 3
    assert sides[0].items() <= sides[1].items() <= sides[2].items()
    assert set(sides[0].values()) == {"train", "heldout"}


def test_a_group_is_never_on_both_sides(store: Store, tmp_path: Path) -> None:
    given = [row | {"group": f"g{number % 7}"} for number, row in enumerate(rows(200))]
    config = corpus(source(write(tmp_path / "a.jsonl", lines(given))), documents_per_shard=9)
    made = ingest_corpus(config, store=store)
    sides = [{document.group for document in documents(store, made, f"{split}/")} for split in ("train", "heldout")]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[0] | sides[1]) == 7
    assert store.manifest(made).totals["groups"] == {"train": len(sides[0]), "heldout": len(sides[1])}


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_heldout_share_is_that_of_the_groups(share: float) -> None:
    count = 20_000
    heldout = sum(is_heldout(f"author {number}", share) for number in range(count))
    assert abs(heldout - share * count) < 4 * (count * share * (1 - share)) ** 0.5


def test_a_larger_share_keeps_what_a_smaller_one_held_out() -> None:
    names = [f"author {number}" for number in range(2_000)]
    assert {name for name in names if is_heldout(name, 0.1)} < {name for name in names if is_heldout(name, 0.2)}


# Bad input


def refused(config: CorpusConfig, store: Store) -> str:
    """The sentence of a refusal that publishes nothing."""
    with pytest.raises(InputError) as error:
        ingest_corpus(config, store=store)
    assert keys(store, "artifacts/") == keys(store, "aliases/") == []
    assert store.versions() == []
    return str(error.value)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-9])
    return path


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.jsonl", None, "There is no file"),
        ("*.nothing", None, "No file fits"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", lines(rows(8)).encode() + b'{"text": "\xff"}\n', "1 of 9 rows can't be used"),
        (
            "a.jsonl",
            b'{"text": "\xff\xfe"}\n' * 4,
            "4 of 4 rows can't be used, over max_bad_share = 0.01: mine/a.jsonl",
        ),
        ("a.jsonl", lines(rows(60)).encode() + b"{\n", "1 of 61 rows can't be used"),
        ("a.jsonl", b"\n \n", "No document is left in the train part of the corpus"),
        ("a.jsonl", lines(rows(1)).encode(), "No document is left in the"),
        ("a.jsonl", lines([row | {"group": "one"} for row in rows(9)]).encode(), "1 groups, heldout_share = 0.3"),
    ],
    ids=["missing", "no-match", "empty", "utf-8", "all-utf-8", "json", "blank", "one-document", "one-group"],
)
def test_bad_input_is_one_sentence_and_nothing_is_published(
    any_store: Store, tmp_path: Path, name: str, data: bytes | None, sentence: str
) -> None:
    if data is not None:
        write(tmp_path / name, data)
    assert sentence in refused(corpus(source(tmp_path / name)), any_store)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_archive_is_one_sentence_and_nothing_is_published(
    store: Store, tmp_path: Path, suffix: str
) -> None:
    whole = write(tmp_path / "a.jsonl", lines(rows(400)))
    path = cut(write(tmp_path / f"b.jsonl{suffix}", lines(rows(400, start=400))))
    said = refused(corpus(source(whole, name="one"), source(path, name="two")), store)
    assert f"{path} is cut off: its compressed data ends early" in said


def test_a_broken_text_names_the_file_and_the_line(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\n\ntwo \xff\n\nthree")
    said = refused(corpus(source(path, "text")), store)
    assert said == (
        "1 of 3 rows can't be used, over max_bad_share = 0.01: mine/a.txt line 3: not UTF-8. "
        "Mend the source, or raise corpus.max_bad_share."
    )


def test_bad_rows_under_the_share_are_counted_by_reason(store: Store, tmp_path: Path) -> None:
    data = lines(rows(60)).encode() + b'{"text": 3}\n{\n{\n{"text": "\xff"}\n'
    config = corpus(source(write(tmp_path / "a.jsonl", data)), max_bad_share=0.07)
    made = ingest_corpus(config, store=store)
    dropped = {"no member 'text' that is text": 1, "not JSON": 2, "not UTF-8": 1}
    assert store.manifest(made).totals["dropped"] == dropped
    assert store.manifest(made).totals["rows_read"] == 64
    assert len(documents(store, made)) == 60
    report = json.loads(store.file(made, "dropped.json").read_text(encoding="utf-8"))
    assert report["dropped"] == dropped
    assert report["examples"][0] == {
        "step": "read",
        "file": "mine/a.jsonl",
        "line": 61,
        "reason": "no member 'text' that is text",
    }
    with pytest.raises(InputError, match="4 of 64 rows"):
        ingest_corpus(config_with(config, 0.06), store=store)


def config_with(config: CorpusConfig, max_bad_share: float) -> CorpusConfig:
    return config.model_copy(update={"max_bad_share": max_bad_share})


def test_half_a_surrogate_pair_is_a_bad_row_like_any_other(store: Store, tmp_path: Path) -> None:
    data = lines(rows(20)).encode() + rb'{"text": "half \ud83d"}' + b"\n"
    made = ingest_corpus(corpus(source(write(tmp_path / "a.jsonl", data)), max_bad_share=0.1), store=store)
    assert store.manifest(made).totals["dropped"] == {"half a surrogate pair": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "jsnl"}, "There is no source format 'jsnl'. Did you mean 'jsonl'?"),
        ({"grup": "author"}, "has no keyword 'grup'. Did you mean 'group'?"),
    ],
)
def test_a_wrong_source_is_refused_before_any_work(
    store: Store, tmp_path: Path, change: dict[str, str], sentence: str
) -> None:
    config = corpus(source(write(tmp_path / "a.jsonl", lines(rows(9))), **change))
    with pytest.raises(ConfigError) as error:
        ingest_corpus(config, store=store, map=forbidden)
    assert sentence in str(error.value)


GERMAN = "Die Mühle steht am Fluss und mahlt das Korn der Bauern, die am Morgen mit ihren Wagen über die Brücke kommen."


def test_documents_of_another_language_are_counted_and_fail_the_stage_above_a_share(
    store: Store, tmp_path: Path
) -> None:
    given = [
        row | {"text": f"{row['text']} It has been there for many years, and the people of the town know it."}
        for row in rows(60)
    ]
    given[41]["text"] = GERMAN
    path = write(tmp_path / "a.jsonl", lines(given))
    config = corpus(source(path), filters=(Plug(name="normalise"), Plug(name="language")))
    assert refused(config, store) == (
        "1 of 60 documents are in another language, over max_foreign_share = 0.01: mine/a.jsonl line 42: language: de. "
        "Mend the source, or raise corpus.max_foreign_share."
    )
    made = ingest_corpus(config.model_copy(update={"max_foreign_share": 0.02}), store=store)
    assert store.manifest(made).totals["dropped"] == {"language: de": 1}
    report = json.loads(store.file(made, "dropped.json").read_text(encoding="utf-8"))
    assert [(each["line"], each["text"]) for each in report["examples"]] == [(42, GERMAN)]


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ([{"name": "gofer_quality"}], "There is no filter 'gofer_quality'. Did you mean 'gopher_quality'?"),
        ([{"name": "normalise", "from": "NFC"}], "The filter 'normalise' has no keyword 'from'. Did you mean 'form'?"),
        (
            [{"name": "normalise", "form": "NFD"}],
            "The filter 'normalise': form is 'NFD': Input should be 'NFC' or 'NFKC'.",
        ),
    ],
)
def test_a_wrong_filter_is_refused_before_any_work(
    store: Store, tmp_path: Path, filters: list[dict[str, str]], sentence: str
) -> None:
    config = corpus(source(write(tmp_path / "a.jsonl", lines(rows(9)))), filters=filters)
    with pytest.raises(ConfigError) as error:
        ingest_corpus(config, store=store, map=forbidden)
    assert str(error.value) == sentence


# Again


@pytest.fixture
def _each_file_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SMALL", 1)


def many_files(tmp_path: Path, count: int = 5) -> CorpusConfig:
    for number in range(count):
        write(tmp_path / f"texts/{number}.jsonl", lines(rows(10, start=8 * number)))
    return corpus(source(tmp_path / "texts/*.jsonl"), documents_per_shard=7)


@pytest.mark.usefixtures("_each_file_is_a_batch")
def test_any_map_makes_the_same_bytes(tmp_path: Path, store: Store) -> None:
    config, digests = many_files(tmp_path), []
    for name in MAPS:
        settings = store.settings.model_copy(update={"store": (tmp_path / "stores" / name).as_uri()})
        with map_named(name) as each:
            digests.append(ingest_corpus(config, store=Store(settings), map=each).digest)
    assert len(set(digests)) == 1


def test_a_finished_corpus_is_found_and_a_forced_one_is_the_same(tmp_path: Path, store: Store) -> None:
    config = many_files(tmp_path)
    made = ingest_corpus(config, store=store)
    assert ingest_corpus(config, store=store, map=forbidden) == made
    forced = ingest_corpus(config, store=store, force=True)
    assert (forced.version, forced.digest) == (f"{made.version}-2", made.digest)


@pytest.mark.usefixtures("_each_file_is_a_batch")
def test_one_more_file_costs_one_part(tmp_path: Path, store: Store) -> None:
    made = ingest_corpus(many_files(tmp_path), store=store)
    parts = set(keys(store, "parts/corpus/"))
    grown = ingest_corpus(many_files(tmp_path, 6), store=store)
    assert grown.version != made.version
    assert len(parts) == 5
    assert len(set(keys(store, "parts/corpus/")) - parts) == 1


@pytest.mark.parametrize("preset", ["tiny", "tiny_zh"])
def test_a_sample_corpus_has_text_to_train_on_and_text_held_out(preset: str, store: Store) -> None:
    config = load_preset(preset).corpus
    made = ingest_corpus(config, store=store)
    totals: dict[str, Any] = store.manifest(made).totals
    assert totals["characters"]["train"] > 1_000_000
    assert totals["documents"]["heldout"] >= 20
    assert totals["groups"]["heldout"] >= 2
    assert {document.lang for document in documents(store, made, "heldout/")} == {config.lang}
    assert {each["name"] for each in totals["sources"] if each["documents"]} == {each.name for each in config.sources}


# The parts


@pytest.mark.usefixtures("_each_file_is_a_batch")
def test_a_killed_shard_is_redone_alone(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = many_files(tmp_path)
    whole = ingest_corpus(config, store=Store(store.settings.model_copy(update={"store": (tmp_path / "b").as_uri()})))
    read, opened, killed = reading.Reading.documents, list[str](), list[bool]()

    def dying(self: reading.Reading, file: InputFile) -> Iterator[Document]:
        opened.append(file.input.name)
        for number, document in enumerate(read(self, file)):
            if file.input.name.endswith("3.jsonl") and number == 4 and not killed:
                killed.append(True)
                raise KeyboardInterrupt
            yield document

    monkeypatch.setattr(reading.Reading, "documents", dying)
    with pytest.raises(KeyboardInterrupt):
        ingest_corpus(config, store=store)
    assert len(keys(store, "parts/corpus/")) == 3
    before = len(opened)
    made = ingest_corpus(config, store=store)
    assert opened[before:] == ["mine/3.jsonl", "mine/4.jsonl"]
    assert made.digest == whole.digest


@pytest.mark.usefixtures("_each_file_is_a_batch")
def test_a_later_file_changes_no_shard_of_the_earlier_ones(tmp_path: Path, store: Store) -> None:
    """Its duplicates of them are left out of its own shards."""
    first = store.manifest(ingest_corpus(many_files(tmp_path), store=store)).files
    again = [row | {"id": f"again {row['id']}", "group": "g1"} for row in rows(30)]
    write(tmp_path / "texts/9.jsonl", lines(again + rows(20, start=500)))
    grown = store.manifest(ingest_corpus(many_files(tmp_path), store=store)).files
    shards = {entry.sha256 for entry in first if entry.path.endswith(".arrow")}
    assert shards < {entry.sha256 for entry in grown}


def test_small_files_are_gathered_and_one_more_changes_one_batch(tmp_path: Path) -> None:
    def gathered(names: Iterable[int]) -> list[tuple[str, ...]]:
        files = [InputFile(tmp_path, source(tmp_path), Input(f"mine/{name:06}", 3_000, "0" * 64)) for name in names]
        return [tuple(file.input.name for file in batch.files) for batch in reading.batches(files)]

    whole = gathered(range(8_000))
    assert sum(map(len, whole)) == 8_000
    assert len(whole) == pytest.approx(8_000 * 3_000 / reading.SMALL, rel=0.8)
    for missing in (0, 777, 4_000, 7_999):
        assert len(set(whole) - set(gathered(name for name in range(8_000) if name != missing))) <= 2


def test_a_batch_holds_files_of_one_source_and_a_large_file_alone(tmp_path: Path) -> None:
    one, two = source(tmp_path, name="one"), source(tmp_path, name="two")
    sizes = [(one, 10), (one, reading.SMALL), (one, 10), (two, 10), (two, 10)]
    files = [InputFile(tmp_path, of, Input(f"{of.name}/{n}", size, "0" * 64)) for n, (of, size) in enumerate(sizes)]
    assert [len(batch.files) for batch in reading.batches(files)] == [1, 1, 1, 2]


# What must not be in


def test_excluded_documents_and_groups_leave_no_trace_in_the_store(store: Store, tmp_path: Path) -> None:
    given = rows(40, documents_of_a_group=2)
    given[7]["text"] = "a secret of the miller"
    path = write(tmp_path / "a.jsonl", lines(given))
    listed = write(tmp_path / "erased.txt", "mine/d7\n\n  g3 \nmine/unknown\n")
    made = ingest_corpus(corpus(source(path), excluded=str(listed)), store=store)
    assert {f"mine/d{n}" for n in range(40) if n not in (6, 7)} == {each.id for each in documents(store, made)}
    assert store.manifest(made).totals["dropped"] == {"excluded by the user": 2}
    for key in keys(store, ""):
        stored = store.backend.get(key) or b""
        assert b"secret of the miller" not in stored
        assert b"secret of the miller" not in decompressed(stored)


def decompressed(stored: bytes) -> bytes:
    """The columns of an Arrow file as they are; nothing of another one."""
    if not stored.startswith(b"ARROW1"):
        return b""
    return repr(pyarrow.ipc.open_file(stored).read_all().to_pylist()).encode()


def test_another_list_of_exclusions_makes_another_corpus_and_a_moved_one_the_same(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines(rows(40)))
    made = [
        ingest_corpus(corpus(source(path), excluded=str(write(tmp_path / name, names))), store=store)
        for name, names in (("one.txt", "mine/d7\n"), ("two.txt", "mine/d8\n"), ("three.txt", "mine/d7\n"))
    ]
    assert made[0] == made[2] != made[1]


def test_a_missing_list_of_exclusions_is_one_sentence(store: Store, tmp_path: Path) -> None:
    config = corpus(source(write(tmp_path / "a.jsonl", lines(rows(40)))), excluded=str(tmp_path / "none.txt"))
    assert "none.txt" in refused(config, store)


def test_documents_that_hold_text_of_a_test_set_are_dropped(store: Store, tmp_path: Path) -> None:
    given = rows(30)
    question = " ".join(f"word{number}" for number in range(14))
    given[5]["text"] = f"Before it. {question.upper()}, and after it."
    path, tests = write(tmp_path / "a.jsonl", lines(given)), write(tmp_path / "t.jsonl", lines([{"text": question}]))
    made = ingest_corpus(corpus(source(path), decontaminate=(source(tests, name="task"),)), store=store)
    assert {f"mine/d{n}" for n in range(30) if n != 5} == {each.id for each in documents(store, made)}
    step = next(step for step in store.manifest(made).totals["funnel"] if step["name"] == "decontamination")
    assert sum(step["dropped"].values()) == 1


def test_examples_are_masked_also_where_a_document_was_dropped_before_it_came_to_that(
    store: Store, tmp_path: Path
) -> None:
    given = [*rows(30), {"id": "canary", "text": f"Write to jo@mill.org. {'The canary sings. ' * 30}"}]
    filters = [{"name": "normalise"}, {"name": "canary", "strings": ["canary"]}, {"name": "mask_identifiers"}]
    path = write(tmp_path / "a.jsonl", lines(given))
    made = ingest_corpus(corpus(source(path), filters=filters), store=store)
    (example,) = json.loads(store.file(made, "dropped.json").read_text(encoding="utf-8"))["examples"]
    assert example["text"].startswith("Write to [EMAIL]. The canary")
    assert len(example["text"]) == reading.EXCERPT


# The card


def test_the_card_is_that_of_the_documents_that_stay(store: Store, tmp_path: Path) -> None:
    given = [
        *rows(30),
        *(row | {"id": f"again{n}"} for n, row in enumerate(rows(5))),
        {"id": "zh", "text": "磨坊", "lang": "zh"},
    ]
    made = ingest_corpus(corpus(source(write(tmp_path / "a.jsonl", lines(given)))), store=store)
    found, totals = documents(store, made), store.manifest(made).totals
    assert sum(totals["documents"].values()) == len(found) == 31
    assert sum(totals["characters"].values()) == sum(len(each.text) for each in found)
    assert sum(totals["bytes"].values()) == sum(len(each.text.encode()) for each in found)
    assert totals["languages"] == {"en": 30, "zh": 1}
    assert sum(each["documents"] for each in totals["lengths"]) == 31
    assert totals["lengths"][0] == {"name": "2 to 3", "documents": 1}
    steps = {step["name"]: step for step in totals["funnel"]}
    assert steps["read"]["documents_in"] == totals["rows_read"] == 36
    assert steps["deduplication"]["dropped"] == {"duplicate text": 5}
    assert steps["mixture"]["documents_out"] == 31
    for before, after in zip(totals["funnel"], totals["funnel"][1:]):
        assert before["documents_out"] == after["documents_in"]
        assert before["characters_out"] == after["characters_in"]
    assert steps["mixture"]["characters_out"] == sum(totals["characters"].values())
