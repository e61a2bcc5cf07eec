"""An object of S3 reads as a file of this machine does: by ranges, tried again, and never as a mixture of two."""

import gzip
import io
import os
import pickle
import random
import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.formats import places
from pipeline.corpus.formats.rows import Row
from pipeline.corpus.ingest import corpus_recipe, ingest_corpus
from pipeline.corpus.inventory import InputFile, inventory
from pipeline.corpus.sources import read_jsonl, read_parquet, read_text
from pipeline.errors import InputError, StoreError
from pipeline.settings import Settings
from pipeline.store import Input, Store
from tests.conftest import BUCKET
from tests.faults import Faults
from tests.maps import map_named
from tests.texts import corpus, lines, rows, source, write

JSONL = '{"text": "The mill."}\n'


class Folder:
    """A folder of the bucket that is the test's own."""

    def __init__(self, name: str) -> None:
        self.client = boto3.Session().client("s3")
        self.name = name

    def put(self, name: str, data: bytes | str) -> str:
        body = data.encode() if isinstance(data, str) else data
        self.client.put_object(Bucket=BUCKET, Key=f"{self.name}/{name}", Body=body)
        return self.url(name)

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{self.name}/{name}"


@pytest.fixture
def folder(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return Folder(tmp_path.name)


@pytest.fixture
def faults(s3_server: dict[str, str], folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """What stands between the sources and the server, once the folder is there."""
    with Faults(s3_server["AWS_ENDPOINT_URL_S3"]) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.address)
        yield between


def found(url: str, **variables: str) -> list[InputFile]:
    return inventory((source(url),), Settings.from_environment(variables))


def the_file(url: str, **variables: str) -> Any:
    (one,) = found(url, **variables)
    return one.file


def test_an_object_counts_by_name_size_and_etag_and_is_not_read(folder: Folder, faults: Faults) -> None:
    url = folder.put("texts/a.jsonl", JSONL)
    (one,) = found(url)
    etag = folder.client.head_object(Bucket=BUCKET, Key=f"{folder.name}/texts/a.jsonl")["ETag"]
    assert one.input == Input("mine/a.jsonl", len(JSONL), version=etag.strip('"'))
    assert not faults.seen("GET")


def test_new_bytes_under_an_old_key_count_and_where_it_lies_does_not(folder: Folder, store: Store) -> None:
    def fingerprint(url: str) -> str:
        return corpus_recipe(corpus(source(url)), store)[0].fingerprint

    first = fingerprint(folder.put("here/a.jsonl", JSONL))
    assert fingerprint(folder.put("there/deep/a.jsonl", JSONL)) == first
    assert fingerprint(folder.url("there/deep/*.jsonl")) == first
    assert fingerprint(folder.put("here/a.jsonl", JSONL.replace("mill", "wind"))) != first


TREE = [
    "a.txt",
    "b.txt",
    "ab.md",
    "x/a.txt",
    "x/y/a.txt",
    "x/y/b.md",
    "x/1.txt",
    "x/10.txt",
    "x/[1].txt",
    "x.y/a+b.txt",
]


@pytest.mark.parametrize(
    "pattern",
    [
        "*.txt", "**/*.txt", "x/*", "x/**/*.txt", "*/a.txt", "?.txt", "x/[0-9].txt", "x/[!0-9]*.txt", "x/[[]1].txt",
        "x.y/a+*.txt", "**/a.txt", "*/*/*", "[ab].txt", "x/1?.txt",
    ],
)  # fmt: skip
def test_a_glob_takes_in_of_a_bucket_what_it_does_of_a_folder(tmp_path: Path, pattern: str) -> None:
    for name in TREE:
        write(tmp_path / name, name)
    here = {path for path in glob(pattern, root_dir=tmp_path, recursive=True) if (tmp_path / path).is_file()}
    there = {name for name in TREE if re.fullmatch(places._regex(pattern), name)}
    assert there == here


def test_a_glob_names_its_objects_from_its_first_wildcard_on_and_in_order(folder: Folder) -> None:
    for name in ("b/1.txt", "a/2.txt", "a/10.txt", "a/skip.md", "a/folder.txt/"):
        folder.put(name, name if not name.endswith("/") else "")
    names = [file.input.name for file in found(folder.url("**/*.txt"))]
    assert names == ["mine/a/10.txt", "mine/a/2.txt", "mine/b/1.txt"]


def test_an_object_is_read_in_ranges_and_never_held_whole(
    folder: Folder, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "BLOCK", 1 << 16)
    data = lines(rows(5_000))
    url = folder.put("a.jsonl", data)
    file = the_file(url)
    faults.clear()
    assert [row[1] for row in read_jsonl(file)] == [each["text"] for each in rows(5_000)]
    spans = [request.headers["Range"] for request in faults.seen("GET")]
    assert len(spans) == len(set(spans)) <= len(data) / (1 << 16) + 2
    ends = [[int(end) for end in span.removeprefix("bytes=").split("-")] for span in spans]
    assert [start for start, _ in ends] == [0, *(end + 1 for _, end in ends[:-1])]


def test_a_place_in_an_object_can_be_gone_to(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BLOCK", 64)
    data = random.Random(1).randbytes(1_000)
    local, draw = io.BytesIO(data), random.Random(2)
    with the_file(folder.put("a.bin", data)).open() as remote:
        for _ in range(100):
            place = draw.choice([(draw.randrange(1_200), 0), (-draw.randrange(1_000), 2), (draw.randrange(9), 1)])
            size = draw.randrange(300)
            assert remote.seek(*place) == local.seek(*place)
            assert remote.read(size) == local.read(size)
        with pytest.raises(ValueError, match="before the start"):
            remote.seek(-1_001, 2)


def test_a_table_of_a_bucket_reads_its_columns_alone(folder: Folder, faults: Faults) -> None:
    noise = [random.Random(number).randbytes(1 << 20) for number in range(20)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"blob": noise, "text": [f"{n}" for n in range(20)]}), sink, row_group_size=10)
    data = sink.getvalue()
    file = the_file(folder.put("a.parquet", data))
    faults.clear()
    assert [row[1] for row in read_parquet(file)] == [f"{n}" for n in range(20)]
    asked = [request.headers["Range"].removeprefix("bytes=").split("-") for request in faults.seen("GET")]
    assert sum(int(end) - int(start) + 1 for start, end in asked) < len(data)


@pytest.mark.parametrize("fault", ["slow_down", "reset_in_body", "truncated", "lost"])
def test_a_read_that_fails_on_its_way_is_tried_again(folder: Folder, faults: Faults, fault: str) -> None:
    file = the_file(folder.put("a.jsonl.gz", gzip.compress(JSONL.encode())))
    faults.add(fault, "GET")
    assert list(read_jsonl(file)) == [Row(1, "The mill.")]
    assert faults.seen("GET", fault=fault)


@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_an_object_that_changes_while_it_is_read_is_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(places, "BLOCK", 64)
    url = folder.put("a.txt", "one\n\n" * 1_000_000)
    found = read_text(the_file(url))
    assert next(found) == Row(1, "one")
    if change == "replaced":
        folder.put("a.txt", "two\n\n" * 1_000_000)
    else:
        folder.client.delete_object(Bucket=BUCKET, Key=f"{folder.name}/a.txt")
    what = "was replaced" if change == "replaced" else "is gone"
    with pytest.raises(InputError, match=rf"a.txt {what} since it was listed. Run again with what is there now."):
        list(found)


def test_a_table_that_changes_is_told_as_that_and_not_as_damage(folder: Folder) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), sink)
    file = the_file(folder.put("a.parquet", sink.getvalue()))
    folder.put("a.parquet", b"x")
    with pytest.raises(InputError, match="was replaced since it was listed"):
        list(read_parquet(file))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("s3://{bucket}/{folder}/none.txt", "There is no object s3://{bucket}/{folder}/none.txt (the source 'mine')."),
        ("s3://{bucket}/{folder}/none/*.txt", "No object fits s3://{bucket}/{folder}/none/*.txt (the source 'mine')."),
        ("s3://{bucket}/{folder}/empty.txt", "{folder}/empty.txt (the source 'mine') is empty."),
        ("s3://nowhere-at-all/*.txt", "There is no bucket 'nowhere-at-all' (s3://nowhere-at-all/*.txt)."),
        ("s3://{bucket}", "s3://{bucket} names no object. Write s3://bucket/key"),
    ],
)
def test_what_is_no_object_is_told_in_a_sentence(folder: Folder, path: str, sentence: str) -> None:
    folder.put("empty.txt", "")
    names = {"bucket": BUCKET, "folder": folder.name}
    with pytest.raises(InputError) as error:
        found(path.format(**names))
    assert sentence.format(**names) in str(error.value)


def test_an_object_that_may_not_be_read_is_told_in_a_sentence(folder: Folder, faults: Faults) -> None:
    file = the_file(folder.put("a.txt", "one"))
    faults.add("denied", "GET")
    with pytest.raises(StoreError, match="Access denied: GetObject on s3://"):
        list(read_text(file))


def test_what_goes_to_another_process_is_small_and_holds_no_credentials(folder: Folder) -> None:
    (one,) = found(folder.put("a.jsonl", JSONL))
    sent = pickle.dumps(one)
    assert pickle.loads(sent) == one
    assert len(sent) < 2_000
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert os.environ[name].encode() not in sent


@pytest.mark.parametrize("name", ["builtin", "processes"])
def test_a_corpus_is_made_of_a_bucket_by_any_map(folder: Folder, store: Store, name: str) -> None:
    for number in range(3):
        folder.put(f"{number}.jsonl.gz", gzip.compress(lines(rows(20, start=20 * number)).encode()))
    config = corpus(source(folder.url("*.jsonl.gz")))
    with map_named(name) as mapped:
        made = ingest_corpus(config, store=store, map=mapped)
    manifest = store.manifest(made)
    assert manifest.totals["rows_read"] == 60
    assert [each["name"] for each in manifest.inputs] == [f"mine/{number}.jsonl.gz" for number in range(3)]
    assert all(set(each) == {"name", "size", "version"} for each in manifest.inputs)
