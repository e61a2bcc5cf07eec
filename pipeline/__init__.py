"""bertmill's library: text in, a pretrained and evaluated BERT encoder out. Imports no Prefect."""

import logging
from typing import Any

log = logging.getLogger("bertmill")


def load(reference: str) -> Any:
    """What a reference names, as Hugging Face's own objects, from the environment's store.

    A pretraining gives a `BertForPreTraining`, a vocabulary its tokenizer, a dataset a `DatasetDict` of its
    splits (memory-mapped Arrow). Raises UnknownReference for any other kind, and where there is no such artifact.
    """
    import tempfile
    from pathlib import Path

    from pipeline.errors import UnknownReference
    from pipeline.store import open_store

    store = open_store()
    artifact = store.resolve(reference)
    if artifact.kind == "dataset":
        import datasets
        import pyarrow as pa

        shards: dict[str, list[Any]] = {}
        for entry in store.manifest(artifact).matching(""):
            if entry.path.endswith(".arrow"):
                mapped = pa.memory_map(str(store.file(artifact, entry.path)))
                shard = datasets.Dataset(pa.ipc.open_file(mapped).read_all())
                shards.setdefault(entry.path.split("/")[0], []).append(shard)
        return datasets.DatasetDict({split: datasets.concatenate_datasets(each) for split, each in shards.items()})
    with tempfile.TemporaryDirectory(prefix="bertmill-") as folder:
        if artifact.kind == "pretraining":
            from transformers import BertForPreTraining

            from pipeline.pretraining.publish import untrained_heads

            if heads := untrained_heads(artifact, store):
                log.warning("%s has no trained %s: what it says by that means nothing", artifact, ", ".join(heads))
            store.export(artifact, Path(folder) / "model")
            return BertForPreTraining.from_pretrained(Path(folder) / "model", local_files_only=True)
        if artifact.kind == "vocabulary":
            from transformers import AutoTokenizer

            store.export(artifact, Path(folder) / "vocabulary")
            return AutoTokenizer.from_pretrained(Path(folder) / "vocabulary", local_files_only=True)
    raise UnknownReference(f"{artifact} is of another kind: load() takes a pretraining, a vocabulary or a dataset.")
