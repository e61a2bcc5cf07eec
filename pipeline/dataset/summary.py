"""A dataset for people: its card as a table, and samples as they are read.

A token that the model sees in another's place stands with what it hides: `[MASK]←river`, `flour←river`; one that it is
to predict though it sees it, as `river←river`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.dataset.entries import Entries
from pipeline.dataset.masking import Masking
from pipeline.dataset.rows import Rows, read_rows
from pipeline.errors import ConfigError
from pipeline.store import Artifact, Store

MEASURES = {
    "samples": ("samples", "{:,}"),
    "tokens in them": ("tokens", "{:,}"),
    "fill": ("fill", "{:.2%}"),
    "predictions a sample": ("masks_per_sample", "{:.2f}"),
    "second segments that don't follow": ("random_next_share", "{:.2%}"),
    "equal to an earlier one of the pass": ("duplicate_share", "{:.4%}"),
    "documents": ("documents", "{:,}"),
    "documents with text": ("documents_with_text", "{:,}"),
    "sentences": ("sentences", "{:,}"),
    "tokens of the corpus": ("source_tokens", "{:,}"),
    "tokens of chosen documents": ("chosen_tokens", "{:,}"),
    "share of these that is used": ("used_share", "{:.4%}"),
    "unknown tokens": ("unknown_share", "{:.4%}"),
    "sentences without words": ("sentences_not_segmented", "{:,}"),
}
LABELS = {
    "nsp": ("B follows A", "B is of another document"),
    "sop": ("B follows A", "B stood before A"),
    "none": ("one segment", "one segment"),
}


def card_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (measure, train, held-out): what was counted, then how long samples are, then sources."""
    splits = {"train": "train", "held-out": "heldout"}
    rows = [
        {"measure": what}
        | {name: form.format(metrics[split][key]) if key in metrics[split] else "" for name, split in splits.items()}
        for what, (key, form) in MEASURES.items()
        if any(key in metrics[split] for split in splits.values())
    ]
    for table, title in (("fill_by_length", "samples of {} tokens"), ("sources", "tokens of source {}")):
        for key in sorted({key for split in splits.values() for key in metrics[split][table]}, key=_by_number):
            cells = {name: f"{metrics[split][table].get(key, 0):.2%}" for name, split in splits.items()}
            rows.append({"measure": title.format(key)} | cells)
    return rows


def _by_number(key: str) -> tuple[int, str]:
    """`up to 128` after `up to 64`."""
    last = key.rpartition(" ")[2]
    return (int(last) if last.isdecimal() else 0, key)


def sample_texts(dataset: Artifact, count: int, store: Store) -> Iterator[str]:
    """Samples of the train part, evenly spaced, as lines of text, under the masks of epoch 0 or those stored.

    Raises ConfigError where the corpus is restricted: its text leaves no stage.
    """
    check_shown(dataset, store)
    manifest = store.manifest(dataset)
    config = DatasetConfig.model_validate(manifest.config)
    entries = Entries.load(store, store.parent(dataset, "vocabulary"))
    files = manifest.matching("train/")
    ends = np.cumsum([entry.rows for entry in files]).tolist()
    count = min(count, ends[-1])
    for index in [number * ends[-1] // count for number in range(count)]:
        number = int(np.searchsorted(ends, index, side="right"))
        place = index - (ends[number - 1] if number else 0)
        rows = read_rows(store.blob(files[number])).cut(place, place + 1)
        positions, inputs = _masks(rows, index, config, entries)
        title = f"sample {index:,}: {len(rows.input_ids)} tokens, {LABELS[config.pairs][rows.next_sentence_label[0]]}"
        yield sample_text(title, rows.input_ids, int(rows.segment_boundary[0]), positions, inputs, entries)


def check_shown(dataset: Artifact, store: Store) -> None:
    """ConfigError where no text of the dataset's corpus may be shown."""
    corpus = store.parent(dataset, "corpus")
    if store.manifest(corpus).config["restricted"]:
        raise ConfigError(
            f"{dataset} is made of {corpus}, which is restricted: no text of it leaves the store. `bertmill show` "
            f"without --samples gives its counts."
        )


def _masks(rows: Rows, index: int, config: DatasetConfig, entries: Entries) -> tuple[list[int], list[int]]:
    """Positions, and what the model sees there, of one sample."""
    if rows.masks is not None:
        return rows.masks.positions.tolist(), rows.masks.inputs.tolist()
    masking = Masking(config, mask_id=entries.mask, undrawable=entries.undrawable, size=entries.size)
    starts = rows.starts.astype(np.int64)
    masks = masking.draw(rows.input_ids, rows.begins_word(0, 1), starts, np.zeros(1, np.int64), np.array([index]))
    return masks.positions.tolist(), masks.inputs.tolist()


def sample_text(
    title: str,
    input_ids: Iterable[int],
    boundary: int,
    positions: Sequence[int],
    inputs: Sequence[int],
    entries: Entries,
) -> str:
    """One sample: its title, and its segments under it, of the unmasked ids and what is seen at the positions."""
    words = {number: token for token, number in entries.ids.items()}
    seen = [words[int(each)] for each in input_ids]
    for position, each in zip(positions, inputs, strict=True):
        seen[position] = f"{words[each]}←{seen[position]}"
    segments = [segment for segment in (seen[:boundary], seen[boundary:]) if segment]
    return "\n".join([title, *(f"  {name}  {' '.join(each)}" for name, each in zip("AB", segments, strict=False))])
