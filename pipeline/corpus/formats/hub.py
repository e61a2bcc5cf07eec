"""Hugging Face datasets: saved to disk (`save_to_disk`), or streamed from the hub by name.

A saved dataset is a folder of Arrow streams, each an input file like any other. One of the hub, `hub:NAME` or
`hub:NAME@REVISION`, counts by the commit that its revision stands for when the run begins, and is read at that commit,
a shard a unit of work. It needs the network each time it is looked at; a token comes from HF_TOKEN, as ever.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.formats.places import File
from pipeline.corpus.formats.rows import BadRow, Members, Row, Text
from pipeline.corpus.formats.tables import BATCH, read_arrow, sound_columns, table_rows, text_columns
from pipeline.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class HubShard:
    """A part of a dataset of the hub, at a commit."""

    dataset: str
    commit: str
    index: int
    of: int

    @property
    def name(self) -> str:
        return f"hub:{self.dataset}@{self.commit} (part {self.index + 1} of {self.of})"


def read_huggingface(
    file: File | HubShard,
    *,
    config: str | None = None,
    split: str = "train",
    text: Text = "text",
    id: str = "id",
    group: str = "group",
    lang: str = "lang",
    date: str = "date",
) -> Iterator[Row | BadRow]:
    """A Hugging Face dataset. The keywords name its columns; only `text` must be there.

    `config` is for datasets of the hub that have several; `split` isn't looked at where a saved dataset has none.
    """
    if not isinstance(file, HubShard):
        return read_arrow(file, text=text, id=id, group=group, lang=lang, date=date)
    members = Members(text, id, group, lang, date)
    return table_rows(file, "Hugging Face", _batches(file, config, split, members), members)


def _batches(shard: HubShard, config: str | None, split: str, members: Members) -> Iterator[dict[str, "pa.Array"]]:
    with _told(shard.dataset):
        dataset = _streamed(shard.dataset, shard.commit, config, split).shard(shard.of, shard.index)
        dataset = dataset.with_format("arrow")
        for table in dataset.iter(BATCH):
            names = text_columns(shard, table.schema, members)
            for batch in table.to_batches():
                yield sound_columns(batch, names)


def hub_shards(path: str, config: str | None = None, split: str = "train") -> list[HubShard]:
    """The parts of `NAME` or `NAME@REVISION`, at the commit that the revision stands for now."""
    from huggingface_hub import HfApi

    name, _, revision = path.partition("@")
    with _told(name):
        commit = HfApi().dataset_info(name, revision=revision or None, timeout=60).sha
        if commit is None:
            raise InputError(f"The hub names no commit of the dataset {name}. Check that HF_ENDPOINT is right.")
        count: int = _streamed(name, commit, config, split).num_shards
    return [HubShard(name, commit, index, count) for index in range(count)]


def _streamed(name: str, commit: str, config: str | None, split: str) -> Any:
    import datasets

    return datasets.load_dataset(name, config, split=split, revision=commit, streaming=True)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """One sentence for whatever is raised inside: `datasets` lets through what each of its readers raises."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or "no reason given"
        raise InputError(
            f"The dataset {name} can't be had from the Hugging Face hub ({type(error).__name__}: {reason}). Check its "
            f"name, config, split and revision, the network and HF_TOKEN; or save it to disk and give the folder."
        ) from error


def saved_files(folder: Path, split: str = "train") -> list[Path]:
    """The Arrow streams of a dataset that `save_to_disk` wrote, in their order; of its `split`, where it has splits."""
    if (splits := folder / "dataset_dict.json").is_file():
        known = _json(splits, "splits")
        if split not in known:
            raise InputError(f"The dataset in {folder} has no split {split!r}. Its splits: {', '.join(known)}.")
        folder = folder / split
    state = folder / "state.json"
    if not state.is_file():
        raise InputError(
            f"{folder} holds no dataset that save_to_disk wrote: state.json is missing. Give the path of one."
        )
    return [folder / each["filename"] for each in _json(state, "_data_files")]


def _json(path: Path, member: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))[member]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not as save_to_disk writes it: {member} is missing. Save the dataset anew."
        ) from None
