"""Samples as a person reads them: tokens, segments, masks and what these hide.

A token that the model sees in another's place stands with what it hides: `[MASK]←river`, `flour←river`; one that it is
to predict though it sees it, as `river←river`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.dataset.batches import Batch, rows_batch
from pipeline.dataset.entries import Entries
from pipeline.dataset.samples import Samples
from pipeline.errors import ConfigError
from pipeline.store import Artifact, Store

LABELS = {
    "nsp": ("B follows A", "B is of another document"),
    "sop": ("B follows A", "B stood before A"),
    "none": ("one segment", "one segment"),
}


def sample_texts(dataset: Artifact, count: int, store: Store) -> Iterator[str]:
    """Samples of the train part, evenly spaced, as lines of text, under the masks of epoch 0 or those stored.

    Raises ConfigError where the corpus is restricted: its text leaves no stage.
    """
    check_shown(dataset, store)
    samples = Samples(store, dataset)
    count = min(count, len(samples))
    batch = rows_batch(samples, np.arange(count) * len(samples) // count)
    titles = [f"sample {index:,}" for index in batch.indices]
    if len(names := samples.origins.names) > 1:
        of = samples.origins.of(batch.indices)
        titles = [f"{title} of {names[number]}" for title, number in zip(titles, of, strict=True)]
    yield from batch_samples(batch, titles, samples, store)


def batch_samples(batch: Batch, titles: Sequence[str], samples: Samples, store: Store) -> Iterator[str]:
    """The first samples of a batch over one dataset, as many as have a title, as lines of text."""
    entries = Entries.load(store, store.parent(samples.dataset, "vocabulary"))
    ends = np.cumsum(batch.lengths)
    for at, title in enumerate(titles):
        start, end = int(ends[at] - batch.lengths[at]), int(ends[at])
        masked = (batch.masked_positions >= start) & (batch.masked_positions < end)
        positions, seen = (batch.masked_positions[masked] - start).tolist(), batch.input_ids[start:end]
        whole = seen.copy()
        whole[positions] = batch.masked_lm_labels[masked]
        label = LABELS[samples.config.pairs][batch.next_sentence_label[at]]
        boundary = int(np.count_nonzero(batch.token_type_ids[start:end] == 0))
        head = f"{title}: {end - start} tokens, {label}"
        yield sample_text(head, whole, boundary, positions, seen[positions].tolist(), entries)


def check_shown(dataset: Artifact, store: Store) -> None:
    """ConfigError where no text of the dataset's corpus may be shown."""
    corpus = store.parent(dataset, "corpus")
    if store.manifest(corpus).config["restricted"]:
        raise ConfigError(
            f"{dataset} is made of {corpus}, which is restricted: no text of it leaves the store. `bertmill show` "
            f"without --samples gives its counts."
        )


def sample_text(
    title: str,
    input_ids: Iterable[int],
    boundary: int,
    positions: Sequence[int],
    inputs: Sequence[int],
    entries: Entries,
) -> str:
    """One sample: its title, and its segments under it, of the unmasked ids and what is seen at the positions."""
    seen = [entries.tokens[int(each)] for each in input_ids]
    for position, each in zip(positions, inputs, strict=True):
        seen[position] = f"{entries.tokens[each]}←{seen[position]}"
    segments = [segment for segment in (seen[:boundary], seen[boundary:]) if segment]
    return "\n".join([title, *(f"  {name}  {' '.join(each)}" for name, each in zip("AB", segments, strict=False))])
