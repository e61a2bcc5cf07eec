"""A BERT in a Hugging Face folder of any age: read under transformers' names of today, or refused in a sentence.

Understood are older spellings (`LayerNorm.gamma`, no `bert.` before the encoder, buffers of position ids), the decoder
written out beside the embeddings that it is tied to, heads that are missing, and pickles, of which nothing but tensors
is loaded. Refused is what would be trained on as another model than it was: another activation, other positions, a
decoder of its own. Costs one reading of the weights.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.config import PretrainingConfig
from pipeline.errors import InputError
from pipeline.pretraining.weights.export import HEADS, hugging_face_shapes

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "layer_norm_eps",
)
"""What the weights are nothing without: keys of config.json and of `[pretraining]`."""
HABITS = ("hidden_dropout_prob", "initializer_range")
"""How it was trained: another training may do otherwise."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The files that hold weights, the one that is preferred first."""
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu", "gelu_python"),
    "position_embedding_type": ("absolute",),
    "type_vocab_size": (2,),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
"""Keys of config.json that may be missing, as they are in old ones; the values that this encoder has."""
_DEFAULTS = {"layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "initializer_range": 0.02}
"""Transformers' own for BERT, where an old config.json is silent."""
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


@dataclass(frozen=True)
class Weights:
    """What a folder holds of a BERT."""

    config: PretrainingConfig
    """Their architecture."""
    tensors: "dict[str, Tensor]"
    """Under the names of transformers' `BertForPreTraining`, float32; tied ones once."""
    lacking: tuple[str, ...]
    """Keys of `HEADS`: parts that it has not."""
    ignored: tuple[str, ...]
    """Its tensors of other heads, such as a classifier's."""


def read_config(path: Path) -> dict[str, Any]:
    """A config.json as it stands. InputError where it can't be read, or isn't of a BERT as this encoder is one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}. Fetch the folder again.") from None
    wanted = ("vocab_size", *(key for key in ARCHITECTURE if key not in _DEFAULTS))
    if not isinstance(config, dict) or (missing := [key for key in wanted if key not in config]):
        what = f"no {', '.join(missing)}" if isinstance(config, dict) else "no JSON object"
        raise InputError(f"{path} has {what}: it isn't the config.json of a BERT. Give a BERT's folder.")
    for key, allowed in _ONLY.items():
        if config.get(key, allowed[0]) not in allowed:
            raise InputError(
                f"{path} has {key} {config[key]!r}, where this encoder has {' or '.join(map(repr, allowed))}: with "
                f"other arithmetic its weights would be of no use. Start from a BERT as published."
            )
    return config


def architecture_of(path: Path) -> PretrainingConfig:
    """A config.json as `[pretraining]` would say it: `ARCHITECTURE` and `HABITS`. Raises as `read_config`."""
    config = _DEFAULTS | read_config(path)
    values = {key: config[key] for key in (*ARCHITECTURE, *HABITS)}
    try:
        return PretrainingConfig(name="parent", **values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0]) if problem["loc"] else "its shape"
        raise InputError(
            f"{path}: {key} is {values.get(key, 'impossible')!r}, which bertmill doesn't train: {problem['msg']}."
        ) from None


def weights_file(folder: Path) -> Path:
    """The file of the weights; InputError where there is none that can be read."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} has neither {' nor '.join(WEIGHTS)}. Save the model into one file with transformers' "
        f"save_pretrained (max_shard_size above its size), and give that folder."
    )


def read_weights(folder: Path) -> Weights:
    """The folder's BERT.

    Raises InputError, with the tensor's name: a part of the encoder or half of a head is missing, one isn't known, has
    another shape than config.json says, or isn't finite; a decoder that isn't tied.
    """
    path = weights_file(folder)
    named = current_names(_read_tensors(path), path)
    config = architecture_of(folder / "config.json")
    shapes = hugging_face_shapes(config, read_config(folder / "config.json")["vocab_size"])
    lacking = tuple(head for head, names in HEADS.items() if not named.keys() & names)
    wanted = shapes.keys() - {name for head in lacking for name in HEADS[head]}
    if missing := sorted(wanted - named.keys()):
        raise InputError(f"{path} lacks {_listed(missing)}: it isn't a whole BERT of config.json's shape.")
    ignored = sorted(named.keys() - wanted)
    if unknown := [name for name in ignored if name.startswith("bert.")]:
        raise InputError(
            f"{path} has {_listed(unknown)}, which no BERT of config.json's shape has. Merge adapters into the model, "
            f"or correct config.json."
        )
    for name in sorted(wanted):
        if named[name].shape != shapes[name]:
            given, by_config = list(named[name].shape), list(shapes[name])
            raise InputError(f"{path}: {name} has the shape {given}, and by config.json {by_config}. One is wrong.")
        if not bool(named[name].isfinite().all()):
            raise InputError(f"{path}: {name} has numbers that aren't finite. That training failed; give another.")
    return Weights(config, {name: named[name].float().contiguous() for name in sorted(wanted)}, lacking, tuple(ignored))


def current_names(named: "Mapping[str, Tensor]", path: Path) -> "dict[str, Tensor]":
    """Tensors under the names of today, tied ones once.

    InputError for a decoder that differs from the embeddings: this encoder's is tied, and would be another model
    whichever of the two it took.
    """
    import torch

    renamed: dict[str, Tensor] = {}
    for name, tensor in named.items():
        if name.endswith((".position_ids", "embeddings.token_type_ids")):
            continue  # buffers, which count up or are zero
        name = re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda old: {"gamma": "weight", "beta": "bias"}[old[0]], name)
        renamed["bert." + name if name.startswith(("embeddings.", "encoder.", "pooler.")) else name] = tensor
    for copy, original in _TIED.items():
        if (twin := renamed.pop(copy, None)) is not None and not torch.equal(twin, renamed.setdefault(original, twin)):
            raise InputError(
                f"{path}: {copy} differs from {original}, to which BERT ties it; as one tensor they would be another "
                f"model. Give an export whose decoder is tied, or leave the heads out: save its BertModel."
            )
    return renamed


def _read_tensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, or of a pickle, of which nothing else is loaded."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        named = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{path} can't be read as tensors and nothing else: {first}. Fetch or save it again."
        ) from None
    if not isinstance(named, dict) or not all(isinstance(each, torch.Tensor) for each in named.values()):
        raise InputError(f"{path} holds something else than tensors by name. Save the model with save_pretrained.")
    return dict(named)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
