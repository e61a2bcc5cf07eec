"""Continued pretraining: a training that starts from another one's weights, or from a BERT of elsewhere.

The dataset's vocabulary decides the rows of the embeddings and of the decoder's bias. An entry that the parent has
keeps its row. A new one gets the mean of the rows of the pieces that the parent parts it into; one that it can't part,
or a free slot, the mean of all its words' rows. Nothing is drawn for these: the mean of n words takes at most 1/n of
their probability from them, by Jensen's inequality (Hewitt 2021, Initializing New Word Embeddings for Pretrained
Language Models), where a draw may take much, and what entries stand beside tells them apart from the first step on.
Heads that the parent lacks are drawn from the seed. The optimizer is fresh, and the learning rate rises again.
Costs one reading of the parent's weights on each rank.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig, is_reference
from pipeline.errors import ConfigError
from pipeline.pretraining.weights.export import OF_VOCABULARY, from_hugging_face
from pipeline.pretraining.weights.hugging_face import ARCHITECTURE, HABITS, architecture_of
from pipeline.pretraining.weights.importing import import_folder
from pipeline.store import Artifact, Store
from pipeline.vocabulary.layout import CONTINUES, SPECIALS, is_unused
from pipeline.vocabulary.tokenizer import bert_normalizer, bert_pre_tokenizer, ids_of, load_ids

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.pretraining.model.bert import BertForPreTraining

Sources = Sequence[tuple[int, ...]]
"""Of each entry of a vocabulary, the parent's entries whose mean its row is; none where there are none."""
log = logging.getLogger("bertmill")


def started_from(config: PretrainingConfig, store: Store) -> tuple[PretrainingConfig, Artifact | None]:
    """The config with what the parent decides, and the parent: resolved to a version, a folder imported.

    What a preset leaves out of the architecture is the parent's; so are dropout and the initial deviation. Raises
    ConfigError where it states another architecture, or `init` leads nowhere; InputError for a folder that can't be
    trained on.
    """
    if config.init is None:
        return config, None
    parent = _parent(config.init, store)
    own = architecture_of(store.file(parent, "model/config.json"))
    for key in ARCHITECTURE:
        if key in config.model_fields_set and getattr(config, key) != getattr(own, key):
            raise ConfigError(
                f"pretraining.{key} is {getattr(config, key)}, but {parent}, which init names, has "
                f"{getattr(own, key)}. Leave it out, which takes the parent's{_instead(key, config, own)}."
            )
    left_open = [key for key in (*ARCHITECTURE, *HABITS) if key not in config.model_fields_set]
    decided = {key: getattr(own, key) for key in left_open}
    return config.model_copy(update=decided | {"init": str(parent)}), parent


def _instead(key: str, config: PretrainingConfig, own: PretrainingConfig) -> str:
    if key == "max_position_embeddings" and config.max_position_embeddings > (learned := own.max_position_embeddings):
        return f", and give dataset.max_seq_length of at most {learned}: it has learned no further positions"
    return ", or start from another"


def _parent(init: str, store: Store) -> Artifact:
    if is_reference(init, "pretraining"):
        return store.resolve(init)
    folder = Path(init).expanduser().absolute()  # its name is the artifact's
    if not folder.is_dir():
        raise ConfigError(
            f"pretraining.init is {init}, where no folder is. Give a Hugging Face folder (config.json, "
            f"model.safetensors, vocab.txt), or a reference such as pretraining/NAME@VERSION."
        )
    return import_folder(folder, store=store)


def initial_record(parent: Artifact, vocabulary: Artifact, store: Store) -> dict[str, Any]:
    """What a training takes from its parent and what of it is new, for the log and the manifest."""
    known, entries = _parents_ids(parent, store), load_ids(store, vocabulary)
    sources = sources_of(entries, known)
    kept = len(entries.keys() & known.keys())
    unknown = sum(not each for each in sources)
    return {
        "parent": parent.reference,
        "kept_entries": kept,
        "averaged_entries": len(entries) - kept - unknown,
        "entries_without_pieces": unknown,
        "dropped_entries": len(known) - kept,
        "new_heads": store.manifest(parent).totals.get("lacking", []),
    }


def log_start(record: Mapping[str, Any]) -> None:
    """Say it in a line; a warning where most of the vocabulary is new."""
    new = record["averaged_entries"] + record["entries_without_pieces"]
    said = [
        f"{record[key]:,} {what}"
        for key, what in (
            ("kept_entries", "entries keep their rows"),
            ("averaged_entries", "have the mean of their pieces' rows"),
            ("entries_without_pieces", "have the mean of all rows"),
            ("dropped_entries", "of the parent's are left out"),
        )
        if record[key]
    ]
    said += [f"made new: {', '.join(record['new_heads'])}"] if record["new_heads"] else []
    log.info("starting from %s: %s", record["parent"], "; ".join(said))
    if new > record["kept_entries"]:
        log.warning("most of the vocabulary is new: is %s of another language, or another case?", record["parent"])


def start_from(
    model: "BertForPreTraining", config: PretrainingConfig, parent: Artifact, vocabulary: Artifact, store: Store
) -> None:
    """Put the parent's weights into a new model of that vocabulary. Heads that it lacks stay as the model has them."""
    model.load_state_dict(model.state_dict() | initial_weights(config, parent, vocabulary, store))


def initial_weights(
    config: PretrainingConfig, parent: Artifact, vocabulary: Artifact, store: Store
) -> "dict[str, Tensor]":
    """The parent's weights as our state dict, with the rows of that vocabulary."""
    from safetensors.torch import load_file

    named = load_file(store.file(parent, "model/model.safetensors"))
    known, entries = _parents_ids(parent, store), load_ids(store, vocabulary)
    sources = sources_of(entries, known)
    words = [number for entry, number in known.items() if not _is_apart(entry)]
    named |= {name: mean_rows(named[name], sources, words) for name in OF_VOCABULARY if name in named}
    return from_hugging_face(named, config, len(entries))


def mean_rows(table: "Tensor", sources: Sources, words: Sequence[int]) -> "Tensor":
    """For each of `sources` the mean of those rows of a [V, …] table; of none, the mean over `words`."""
    import torch
    from torch.nn.functional import embedding_bag

    rows = table.reshape(len(table), -1)
    flat = torch.tensor([number for each in sources for number in each], dtype=torch.int64)
    sizes = torch.tensor([len(each) for each in sources])
    means = embedding_bag(flat, rows, sizes.cumsum(0) - sizes, mode="mean")
    means[sizes == 0] = rows[torch.tensor(words)].mean(0)
    return means.reshape(len(sources), *table.shape[1:])


def sources_of(entries: Mapping[str, int], known: Mapping[str, int]) -> Sources:
    """Of each entry, in the order of their ids, those of `known` that it is or is made of."""
    normalizer, pre_tokenizer = bert_normalizer(True, None), bert_pre_tokenizer()

    def parted(entry: str) -> tuple[int, ...]:
        if entry in known:
            return (known[entry],)
        if _is_apart(entry):
            return ()
        text = entry.removeprefix(CONTINUES)
        for form in (text, normalizer.normalize_str(text)):  # as it is, or as a parent for lower case reads it
            words = [word for word, _ in pre_tokenizer.pre_tokenize_str(form)]
            for continues in {entry.startswith(CONTINUES): None, False: None}:
                numbers = [_pieces(word, known, continues and not at) for at, word in enumerate(words)]
                if any(numbers):
                    return tuple(number for each in numbers for number in each)
        return ()

    return [parted(entry) for entry in sorted(entries, key=lambda entry: entries[entry])]


def _pieces(word: str, known: Mapping[str, int], continues: bool) -> list[int]:
    """The ids of the word's pieces, the longest first from the left; none where it can't be parted."""
    found, start = list[int](), 0
    while start < len(word):
        mark = CONTINUES if start or continues else ""
        ends = (end for end in range(len(word), start, -1) if mark + word[start:end] in known)
        if (end := next(ends, None)) is None:
            return []
        found.append(known[mark + word[start:end]])
        start = end
    return found


def _is_apart(entry: str) -> bool:
    """Whether it is no word: its row says nothing of words', nor theirs of its."""
    return entry in SPECIALS or is_unused(entry)


def _parents_ids(parent: Artifact, store: Store) -> dict[str, int]:
    return ids_of(json.loads(store.file(parent, "model/tokenizer.json").read_text(encoding="utf-8")))
