"""Of what comes from outside its bytes and its name within the source count, and not where it lies."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.corpus.formats.places import LocalFile
from pipeline.corpus.ingest import corpus_recipe
from pipeline.corpus.inventory import inventory
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.store import Input, Store
from tests.texts import corpus, source, write


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"BERTMILL_HOME": str(tmp_path / "home")})


def test_a_file_counts_by_name_size_and_bytes(tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path / "texts/a.txt", "mill")
    (file,) = inventory((source(path, "text"),), settings)
    assert file.file == LocalFile(path)
    assert file.input == Input("mine/a.txt", 4, sha256(b"mill").hexdigest())


def test_a_glob_names_its_files_from_its_first_wildcard_on_and_in_order(tmp_path: Path, settings: Settings) -> None:
    for name in ("b/1.txt", "a/2.txt", "a/10.txt", "a/skip.md"):
        write(tmp_path / "texts" / name, name)
    found = inventory((source(tmp_path / "texts/**/*.txt", "text"), source(tmp_path / "texts/b/*", name="b")), settings)
    assert [file.input.name for file in found] == ["mine/a/10.txt", "mine/a/2.txt", "mine/b/1.txt", "b/1.txt"]


def fingerprint(path: Path, store: Store) -> str:
    return corpus_recipe(corpus(source(path)), store)[0].fingerprint


@pytest.mark.parametrize("pattern", ["a.jsonl", "*.jsonl"])
def test_where_a_file_lies_does_not_count(tmp_path: Path, store: Store, pattern: str) -> None:
    write(tmp_path / "here/a.jsonl", "mill")
    write(tmp_path / "there/deep/a.jsonl", "mill")
    there = fingerprint(tmp_path / "there/deep" / pattern, store)
    assert fingerprint(tmp_path / "here" / pattern, store) == there
    assert fingerprint(tmp_path / "there/deep/a.jsonl", store) == there, "the file alone is the same as its glob"


def test_new_bytes_under_an_old_name_count(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path / "a.jsonl", "mill")
    before = fingerprint(path, store)
    write(path, "wind")  # as many bytes
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))
    assert fingerprint(path, store) != before
    write(path, "mill")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 2_000_000))
    assert fingerprint(path, store) == before


def test_another_name_within_the_source_counts(tmp_path: Path, store: Store) -> None:
    assert fingerprint(write(tmp_path / "a.jsonl", "x"), store) != fingerprint(write(tmp_path / "b.jsonl", "x"), store)


def test_an_unchanged_file_is_looked_at_and_not_read_again(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path / "a.jsonl", "mill")
    before, seen = fingerprint(path, store), path.stat()
    path.write_bytes(b"wind")  # in place, and its time set back: what only reading would show
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert fingerprint(path, store) == before


def test_a_damaged_memory_of_digests_is_read_past(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path / "a.jsonl", "mill")
    before = fingerprint(path, store)
    (memo,) = (store.settings.home / "digests").iterdir()
    for damage in ("", "{", "[]", '{"key": 3}', '{"key": [4, 5, 6], "sha256": "x"}'):
        memo.write_text(damage)
        assert fingerprint(path, store) == before


def test_digests_that_can_not_be_remembered_are_no_error(tmp_path: Path, store: Store) -> None:
    store.settings.home.mkdir()
    (store.settings.home / "digests").write_text("in the way")
    path = write(tmp_path / "a.jsonl", "mill")
    assert fingerprint(path, store) == fingerprint(path, store)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("none.txt", "There is no file {tmp}/none.txt (the source 'mine'). Correct its path"),
        ("none/*.txt", "No file fits {tmp}/none/*.txt (the source 'mine')."),
        ("folder", "A folder stands at {tmp}/folder (the source 'mine')."),
        ("folder/*", "No file fits {tmp}/folder/*"),
        ("empty.txt", "{tmp}/empty.txt (the source 'mine') is empty. Remove it, or fetch it again."),
        ("*.txt", "{tmp}/empty.txt (the source 'mine') is empty."),
    ],
)
def test_what_is_no_file_is_told_in_a_sentence(tmp_path: Path, settings: Settings, path: str, sentence: str) -> None:
    (tmp_path / "folder/inner").mkdir(parents=True)
    (tmp_path / "empty.txt").touch()
    write(tmp_path / "full.txt", "mill")
    with pytest.raises(InputError) as error:
        inventory((source(tmp_path / path),), settings)
    assert sentence.format(tmp=tmp_path) in str(error.value)


def test_a_path_of_another_scheme_is_told_in_a_sentence(settings: Settings) -> None:
    with pytest.raises(InputError, match="has the scheme 'https'; give a local path, s3://BUCKET/KEY, hub:NAME"):
        inventory((source("https://example.org/a.txt"),), settings)


def test_no_source_at_all_is_told_how_one_reads(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"has no sources. Add one, such as: sources = \[\{ format"):
        inventory((), settings)


def test_the_users_home_may_be_written_as_a_tilde(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "a.txt", "mill")
    assert [file.file for file in inventory((source("~/*.txt"),), settings)] == [LocalFile(path)]
