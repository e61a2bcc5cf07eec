"""Words of the corpus and how often each stands, under BERT's normalisation and pre-tokenisation.

Both are local to a run of text without blanks, so the distinct runs are counted first, and `tokenizers` sees each of
them once. Costs about a second for 10 MB of English; memory holds the distinct runs of one shard.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import VocabularyConfig
from pipeline.corpus.document import read_documents
from pipeline.progress import track
from pipeline.store import FileEntry, Part, PartDraft, Store
from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer

SCHEMA = 1


def count_shard(entry: FileEntry, *, config: VocabularyConfig, whole: tuple[str, ...], store: Store) -> Part:
    """The word counts of one corpus shard: a part, shared by vocabularies of every size."""
    identity = {
        "schema": SCHEMA,
        "shard": entry.sha256,
        "lowercase": config.lowercase,
        "strip_accents": config.strip_accents,
    } | ({"whole": whole} if whole else {})
    return store.part(
        "vocabulary", identity, partial(_count_shard, entry=entry, config=config, whole=whole, store=store)
    )


def _count_shard(
    draft: PartDraft, *, entry: FileEntry, config: VocabularyConfig, whole: tuple[str, ...], store: Store
) -> dict[str, Any]:
    documents = track(read_documents(store.blob(entry)), f"counting the words of {entry.path}", entry.rows)
    texts = (without(document.text, whole) for document in documents)
    counts = count_words(texts, lowercase=config.lowercase, strip_accents=config.strip_accents)
    write_counts(draft.folder / "counts.arrow", counts)
    draft.add("counts.arrow", rows=len(counts))
    return {"words": sum(counts.values())}


def without(text: str, whole: Iterable[str]) -> str:
    """`text` without the tokens that are kept whole, which teach no word."""
    for token in whole:
        text = text.replace(token, " ")
    return text


def count_words(texts: Iterable[str], *, lowercase: bool, strip_accents: bool | None) -> Counter[str]:
    """How often each word stands in `texts`."""
    runs: Counter[str] = Counter()
    for text in texts:
        runs.update(text.split())
    normalizer, pre_tokenizer = bert_normalizer(lowercase, strip_accents), bert_pre_tokenizer()
    counts: Counter[str] = Counter()
    for run, count in runs.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(run)):
            counts[word] += count
    return counts


def merged_counts(parts: Iterable[Part], store: Store) -> Counter[str]:
    """The parts' counts added up; independent of how the corpus was sharded."""
    merged: Counter[str] = Counter()
    for part in parts:
        for word, count in read_counts(store.blob(part.files[0])):
            merged[word] += count
    return merged


def write_counts(path: Path, counts: Counter[str]) -> None:
    """An Arrow IPC file of (word: string, count: uint64), sorted by word."""
    import pyarrow as pa

    words = sorted(counts)
    table = pa.table(
        {"word": pa.array(words, pa.string()), "count": pa.array([counts[word] for word in words], pa.uint64())}
    )
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=65_536)


def read_counts(path: Path) -> Iterator[tuple[str, int]]:
    """The (word, count) pairs of a file."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield from zip(batch["word"].to_pylist(), batch["count"].to_pylist(), strict=True)
