"""Our weights to and from a Hugging Face folder for `BertForPreTraining`, which every BERT class of theirs reads.

The fused query, key and value are parted, the padding of the vocabulary is cut off, and tied tensors are written once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import PretrainingConfig
from pipeline.pretraining.model.sizes import padded_rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipeline.pretraining.model.bert import BertForPreTraining

MODEL_FILES = ("config.json", "model.safetensors")
_PLAIN = {
    "position_embeddings.weight": "bert.embeddings.position_embeddings.weight",
    "token_type_embeddings.weight": "bert.embeddings.token_type_embeddings.weight",
    **{f"embedding_norm.{part}": f"bert.embeddings.LayerNorm.{part}" for part in ("weight", "bias")},
    **{f"pooler.{part}": f"bert.pooler.dense.{part}" for part in ("weight", "bias")},
    **{f"next_sentence.{part}": f"cls.seq_relationship.{part}" for part in ("weight", "bias")},
    **{f"transform.{part}": f"cls.predictions.transform.dense.{part}" for part in ("weight", "bias")},
    **{f"transform_norm.{part}": f"cls.predictions.transform.LayerNorm.{part}" for part in ("weight", "bias")},
}
_VOCABULARY = {
    "word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
    "decoder_bias": "cls.predictions.bias",
}
OF_VOCABULARY = tuple(_VOCABULARY.values())
"""Transformers' tensors that have a row for each entry."""
_IN_LAYER = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
_QKV = ("query", "key", "value")
HEADS = {
    "pooler": tuple(_PLAIN[f"pooler.{part}"] for part in ("weight", "bias")),
    "masked-LM transform": tuple(
        _PLAIN[f"{name}.{part}"] for name in ("transform", "transform_norm") for part in ("weight", "bias")
    ),
    "masked-LM bias": (_VOCABULARY["decoder_bias"],),
    "next-sentence": tuple(_PLAIN[f"next_sentence.{part}"] for part in ("weight", "bias")),
}
"""What a BERT from elsewhere may lack, by transformers' names."""


def _layer_names(config: PretrainingConfig) -> Iterator[tuple[str, str]]:
    for number in range(config.num_hidden_layers):
        for ours, theirs in _IN_LAYER.items():
            for part in ("weight", "bias"):
                yield f"layers.{number}.{ours}.{part}", f"bert.encoder.layer.{number}.{theirs}.{part}"


def to_hugging_face(state: "dict[str, Tensor]", config: PretrainingConfig, vocabulary_size: int) -> "dict[str, Tensor]":
    """Our state dict under transformers' names, float32."""
    named = {theirs: state[ours] for ours, theirs in (*_PLAIN.items(), *_layer_names(config))}
    named |= {theirs: state[ours][:vocabulary_size] for ours, theirs in _VOCABULARY.items()}
    for number in range(config.num_hidden_layers):
        for part in ("weight", "bias"):
            fused = state[f"layers.{number}.qkv.{part}"].chunk(3)
            for name, tensor in zip(_QKV, fused, strict=True):
                named[f"bert.encoder.layer.{number}.attention.self.{name}.{part}"] = tensor
    return {name: tensor.detach().float().contiguous().clone() for name, tensor in named.items()}


def hugging_face_shapes(config: PretrainingConfig, vocabulary_size: int) -> "dict[str, torch.Size]":
    """The shape of each of transformers' tensors; costs no memory."""
    import torch

    from pipeline.pretraining.model.bert import BertForPreTraining

    with torch.device("meta"):
        state = BertForPreTraining(config, vocabulary_size).state_dict()
    return {name: tensor.shape for name, tensor in to_hugging_face(state, config, vocabulary_size).items()}


def from_hugging_face(
    named: "dict[str, Tensor]", config: PretrainingConfig, vocabulary_size: int
) -> "dict[str, Tensor]":
    """The inverse: transformers' tensors as our state dict, the vocabulary padded with zeros.

    `HEADS` that aren't there are left out.
    """
    import torch

    may_lack = {name for names in HEADS.values() for name in names} - named.keys()
    plain = [each for each in (*_PLAIN.items(), *_layer_names(config)) if each[1] not in may_lack]
    state = {ours: named[theirs] for ours, theirs in plain}
    rows = padded_rows(vocabulary_size)
    for ours, theirs in _VOCABULARY.items():
        if theirs in may_lack:
            continue
        padding = named[theirs].new_zeros(rows - vocabulary_size, *named[theirs].shape[1:])
        state[ours] = torch.cat([named[theirs], padding])
    for number in range(config.num_hidden_layers):
        for part in ("weight", "bias"):
            root = f"bert.encoder.layer.{number}.attention.self."
            state[f"layers.{number}.qkv.{part}"] = torch.cat([named[f"{root}{name}.{part}"] for name in _QKV])
    return state


def hugging_face_config(config: PretrainingConfig, vocabulary_size: int) -> dict[str, object]:
    """The content of config.json."""
    return {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        "vocab_size": vocabulary_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": config.initializer_range,
        "layer_norm_eps": config.layer_norm_eps,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def save_pretrained(state: "dict[str, Tensor]", config: PretrainingConfig, vocabulary_size: int, folder: Path) -> None:
    """Write config.json and model.safetensors into `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(hugging_face_config(config, vocabulary_size), indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    tensors = to_hugging_face(state, config, vocabulary_size)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load_pretrained(folder: Path, config: PretrainingConfig) -> "BertForPreTraining":
    """Our encoder with the weights of a folder that `save_pretrained` wrote."""
    from safetensors.torch import load_file

    from pipeline.pretraining.model.bert import BertForPreTraining

    named = load_file(folder / "model.safetensors")
    size = len(named["cls.predictions.bias"])
    model = BertForPreTraining(config, size)
    model.load_state_dict(from_hugging_face(named, config, size))
    return model
