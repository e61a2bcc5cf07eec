"""Datasets of Hugging Face: saved to disk they are files like others; of the hub they count by their commit."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.corpus.formats.hub import HubShard, read_huggingface
from pipeline.corpus.formats.rows import Row
from pipeline.corpus.inventory import inventory
from pipeline.errors import InputError
from pipeline.settings import Settings
from tests.texts import lines, source, write


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def saved(folder: Path, **splits: list[str]) -> Path:
    made = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in splits.items()}
    datasets.DatasetDict(made).save_to_disk(folder, num_shards=dict.fromkeys(made, 2))
    return folder


def found(path: Path | str, **keywords: Any) -> Any:
    mine = source(path, "huggingface", **keywords)
    return inventory((mine,), Settings.from_environment({}))


def test_a_saved_dataset_is_its_splits_arrow_files(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", train=["a", "b", "c"], test=["d", "e"])
    files = found(folder)
    assert [file.input.name for file in files] == [f"mine/train/data-0000{n}-of-00002.arrow" for n in (0, 1)]
    assert [row for file in files for row in read_huggingface(file.file)] == [Row(1, "a"), Row(2, "b"), Row(1, "c")]
    texts = [row[1] for file in found(folder, split="test") for row in read_huggingface(file.file, split="test")]
    assert texts == ["d", "e"]


def test_a_saved_dataset_without_splits_is_all_of_it(tmp_path: Path) -> None:
    chosen = datasets.Dataset.from_dict({"text": ["a", "b", "c"]}).select([2, 0])
    chosen.save_to_disk(tmp_path / "d")
    (file,) = found(tmp_path / "d")
    assert list(read_huggingface(file.file)) == [Row(1, "c"), Row(2, "a")]


def test_what_is_no_saved_dataset_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no dataset that save_to_disk wrote: state.json is missing"):
        found(tmp_path)
    folder = saved(tmp_path / "d", train=["a", "b"])
    with pytest.raises(InputError, match="has no split 'valid'. Its splits: train."):
        found(folder, split="valid")
    (folder / "train/data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match="data-00001-of-00002.arrow is missing from its dataset"):
        found(folder)
    (folder / "train/state.json").write_text("{}")
    with pytest.raises(InputError, match="is not as save_to_disk writes it: _data_files is missing"):
        found(folder)


@pytest.fixture
def streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of JSON lines, which `datasets` streams as it does a dataset of the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for number in range(3):
        rows = [{"text": f"{number} {n}", "id": n, "by": {"site": "x"}} for n in range(2)]
        write(tmp_path / f"repository/part-{number}.jsonl", lines(rows))
    return str(tmp_path / "repository")


def test_a_dataset_is_streamed_a_shard_at_a_time(streamed: str) -> None:
    shards = [HubShard(streamed, "main", index, 3) for index in range(3)]
    given = [row for shard in shards for row in read_huggingface(shard, group="by.site")]
    assert given == [Row(n + 1, f"{number} {n}", str(n), "x") for number in range(3) for n in range(2)]
    assert pickle.loads(pickle.dumps(shards)) == shards


def test_a_column_that_a_dataset_has_not_is_told(streamed: str) -> None:
    with pytest.raises(InputError, match="has no column 'body'. Its columns: text, id, by, by.site"):
        list(read_huggingface(HubShard(streamed, "main", 0, 3), text="body"))


def test_a_split_that_a_dataset_has_not_is_told(streamed: str) -> None:
    with pytest.raises(InputError, match="can't be had from the Hugging Face hub .* Check its name, config, split"):
        list(read_huggingface(HubShard(streamed, "main", 0, 3), split="valid"))


def test_a_dataset_of_the_hub_has_its_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of the Hugging Face hub and has the format 'jsonl'; give format = \"hug"):
        inventory((source("hub:org/name", "jsonl"),), Settings.from_environment({}))


READ = """
import json, sys
from pipeline.config import Source
from pipeline.settings import Settings
from pipeline.corpus.formats.hub import read_huggingface
from pipeline.corpus.inventory import inventory
from pipeline.errors import InputError

for path in sys.argv[1:]:
    mine = Source(path=path, format="huggingface", name="mine", licence="own")
    try:
        files = inventory((mine,), Settings.from_environment({}))
        print(json.dumps([[*file.input.identity, [row[1] for row in read_huggingface(file.file)]] for file in files]))
    except InputError as error:
        print(json.dumps(str(error)))
"""
COMMIT = "c0ffee" * 6 + "c0de"


def read_from_a_hub(folder: Path, *paths: str, endpoint: str = "") -> list[Any]:
    """What a process finds and reads that has been led to a hub which serves that folder."""
    server = [sys.executable, str(Path(__file__).parents[2] / "hub_server.py"), str(folder), COMMIT]
    with subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as hub:
        try:
            assert hub.stdout is not None
            address = endpoint or f"http://127.0.0.1:{hub.stdout.readline().strip()}"
            places = {"HF_ENDPOINT": address, "HF_HOME": str(folder.parent / "hf")}
            reader = [sys.executable, "-c", READ, *paths]
            done = subprocess.run(reader, env=os.environ | places, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            hub.terminate()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_dataset_of_the_hub_counts_by_its_commit_and_is_read_by_its_shards(streamed: str) -> None:
    by_name, by_branch, no_revision, no_dataset = read_from_a_hub(
        Path(streamed), "hub:org/name", "hub:org/name@main", "hub:org/name@none", "hub:org/none"
    )
    names = [f"mine/org/name/0000{number}-of-00003" for number in range(3)]
    assert by_name == [[names[number], 0, COMMIT, [f"{number} 0", f"{number} 1"]] for number in range(3)]
    assert by_branch == by_name
    assert "The dataset org/name can't be had from the Hugging Face hub (RevisionNotFoundError" in no_revision
    assert "The dataset org/none can't be had from the Hugging Face hub (RepositoryNotFoundError" in no_dataset


def test_without_the_network_it_is_said_what_to_do(streamed: str) -> None:
    (told,) = read_from_a_hub(Path(streamed), "hub:org/name", endpoint="http://127.0.0.1:1")
    assert told.endswith("the network and HF_TOKEN; or save it to disk and give the folder.")
