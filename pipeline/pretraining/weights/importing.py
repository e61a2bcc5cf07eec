"""A Hugging Face folder becomes an artifact: a pretraining that was done elsewhere.

It is told by the bytes of its files, so that the same folder is found again wherever it lies, and stored as a
training's own model is (one safetensors file, names of today, float32), so that whatever takes a pretraining takes it:
a training that goes on from it, an evaluation beside which that is judged, `export`. Costs a hash of the files each
time it is looked for, and one reading of the weights and a copy the first time.
"""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pipeline.config import WHERE, Table
from pipeline.errors import InputError
from pipeline.pretraining.weights.export import OF_VOCABULARY, hugging_face_config
from pipeline.pretraining.weights.hugging_face import Weights, read_config, read_weights, weights_file
from pipeline.store import Artifact, Draft, Input, Recipe, Store
from pipeline.store.local import sha256_of
from pipeline.vocabulary.existing import read_vocabulary
from pipeline.vocabulary.layout import SPECIALS, is_unused
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES, Form, write_tokenizer_files

SCHEMA = 1
_ATTENTION = "attention_probs_dropout_prob"
log = logging.getLogger("bertmill")


class Import(Table):
    """A model from elsewhere; its files decide all."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store: the folder's, or the repository's in a cache of the hub."""


def import_recipe(folder: Path) -> Recipe:
    """All that decides the artifact. InputError where a file of it is missing."""
    paths = [folder / "config.json", weights_file(folder), folder / "vocab.txt"]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{folder} has no {path.name}. Fetch the model's whole folder, its tokenizer's too.")
    paths += [path for path in [folder / "tokenizer_config.json"] if path.is_file()]
    inputs = tuple(Input(path.name, path.stat().st_size, sha256_of(path)) for path in paths)
    return Recipe("pretraining", Import(name=_name(folder)), SCHEMA, inputs=inputs)


def import_folder(folder: Path, *, store: Store) -> Artifact:
    """The folder's BERT as a pretraining. InputError where it isn't one that can be trained on."""
    recipe = import_recipe(folder)
    if found := store.find(recipe):
        log.info("found %s, imported from %s", found, folder)
        return found
    entries = read_vocabulary(folder / "vocab.txt")
    weights = read_weights(folder)
    if (size := len(entries)) > (rows := len(weights.tensors[OF_VOCABULARY[0]])):
        raise InputError(
            f"{folder}: vocab.txt has {size:,} entries and the embeddings {rows:,} rows. Give the model its "
            f"own vocab.txt."
        )
    tensors = {name: each[:size].clone() if name in OF_VOCABULARY else each for name, each in weights.tensors.items()}
    with store.draft(recipe) as draft:
        _write(draft, folder, entries, replace(weights, tensors=tensors))
        made = draft.commit(
            totals={
                "parameters": sum(tensor.numel() for tensor in tensors.values()),
                "vocabulary_size": size,
                "rows_without_entry": rows - size,
                "lacking": list(weights.lacking),
                "ignored": list(weights.ignored),
            }
        )
    lacks = f", without {', '.join(weights.lacking)}" if weights.lacking else ""
    left_out = f"; left out: {', '.join(weights.ignored)}" if weights.ignored else ""
    log.info("imported %s from %s: %s entries%s%s", made, folder, f"{size:,}", lacks, left_out)
    return made


def _write(draft: Draft, folder: Path, entries: list[str], weights: Weights) -> None:
    """The model's folder, as a training's is."""
    from safetensors.torch import save_file

    target = draft.folder / "model"
    target.mkdir()
    # Trainings here have no dropout in attention; who fine-tunes the parent as it is gets what was published.
    attention = {key: value for key, value in read_config(folder / "config.json").items() if key == _ATTENTION}
    text = json.dumps(hugging_face_config(weights.config, len(entries)) | attention, indent=2, sort_keys=True)
    (target / "config.json").write_text(text + "\n", encoding="utf-8")
    save_file(weights.tensors, target / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer_files(target, entries, _form(folder, entries))
    draft.add_all([f"model/{name}" for name in ("config.json", "model.safetensors", *TOKENIZER_FILES)])


def _form(folder: Path, entries: list[str]) -> Form:
    """How its tokenizer reads a text; old folders don't say, but a vocabulary with no upper case is for lower case."""
    path, said = folder / "tokenizer_config.json", dict[str, Any]()
    if path.is_file():
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} can't be read as JSON: {error}. Fetch the folder again.") from None
    words = [entry for entry in entries if entry not in SPECIALS and not is_unused(entry)]
    lowercase = said.get("do_lower_case")
    if lowercase is None:
        lowercase = all(word == word.lower() for word in words)
    return Form(lowercase, said.get("strip_accents"))


def _name(folder: Path) -> str:
    """The folder's name as the store can have it."""
    named = folder.name
    if folder.parent.name == "snapshots":  # …/models--OWNER--NAME/snapshots/COMMIT, as the hub's cache has it
        named = folder.parent.parent.name.rpartition("--")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", named.lower()).strip("._-")[:63] or "imported"
