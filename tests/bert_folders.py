"""Small BERTs in folders laid out as known repositories of the Hugging Face hub are."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

Named = dict[str, Tensor]
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.1,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "type_vocab_size": 2,
}


def foreign(rows: int, seed: int = 1, **shape: Any) -> transformers.BertForPreTraining:
    """A model of transformers' whose every number is drawn, LayerNorms and biases too: so that none can stand in for
    another.
    """
    torch.manual_seed(seed)
    model = transformers.BertForPreTraining(transformers.BertConfig(vocab_size=rows, **SHAPE | shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.tie_weights()
    return model


def published(model: transformers.BertForPreTraining) -> Named:
    """The names of google's weights as they were first converted: the decoder's weight is there, its bias has one name;
    207 tensors in twelve layers.
    """
    named = {name: each.clone() for name, each in model.state_dict().items()}
    return {name: each for name, each in named.items() if name != "cls.predictions.decoder.bias"}


def with_gamma(named: Named) -> Named:
    """LayerNorm's parts under tensorflow's names."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    return {renamed(name): each for name, each in named.items()}


def of_masked_lm(named: Named) -> Named:
    """What transformers' BertForMaskedLM saved for years: a buffer of positions, no pooler, and the bias twice."""
    kept = {name: each for name, each in named.items() if "pooler" not in name and "seq_relationship" not in name}
    positions = torch.arange(SHAPE["max_position_embeddings"])[None]
    twice = {"cls.predictions.decoder.bias": named["cls.predictions.bias"].clone()}
    return kept | {"bert.embeddings.position_ids": positions} | twice


def of_encoder(named: Named) -> Named:
    """What BertModel saves: the encoder and its pooler, under names of its own."""
    return {name.removeprefix("bert."): each for name, each in named.items() if name.startswith("bert.")}


def of_decoder(named: Named) -> Named:
    """Of tied tensors, the other one."""
    return {name: each for name, each in named.items() if name != "bert.embeddings.word_embeddings.weight"}


def of_classifier(named: Named) -> Named:
    """A fine-tuned BertForSequenceClassification."""
    kept = {name: each for name, each in named.items() if name.startswith("bert.")}
    return kept | {"classifier.weight": torch.zeros(3, 32), "classifier.bias": torch.zeros(3)}


@dataclass(frozen=True)
class Layout:
    """What a repository has."""

    names: Callable[[Named], Named]
    file: str
    config: dict[str, Any] = field(default_factory=dict)
    """Of config.json, beside the shape; None takes a key away."""
    tokenizer: dict[str, Any] | None = None
    lacking: tuple[str, ...] = ()


LAYOUTS = {
    "bert-base-chinese": Layout(
        with_gamma,
        "pytorch_model.bin",
        {"architectures": ["BertForMaskedLM"], "model_type": "bert", "directionality": "bidi", "pooler_fc_size": 768},
        {"do_lower_case": False},
    ),
    "chinese-roberta-wwm-ext": Layout(
        of_masked_lm,
        "pytorch_model.bin",
        {"architectures": ["BertForMaskedLM"], "model_type": "bert", "output_past": True, "bos_token_id": 0},
        {"init_inputs": []},
        ("pooler", "next-sentence"),
    ),
    "Bio_ClinicalBERT": Layout(with_gamma, "pytorch_model.bin", {"layer_norm_eps": None, "initializer_range": 0.02}),
    "encoder-alone": Layout(
        of_encoder, "model.safetensors", {}, None, ("masked-LM transform", "masked-LM bias", "next-sentence")
    ),
    "decoder-kept": Layout(of_decoder, "model.safetensors", {"position_embedding_type": "absolute"}),
    "classifier": Layout(
        of_classifier, "model.safetensors", {}, None, ("masked-LM transform", "masked-LM bias", "next-sentence")
    ),
}


def write_folder(
    folder: Path, layout: Layout, model: transformers.BertForPreTraining, entries: Sequence[str], **config: Any
) -> Path:
    """The folder of that repository, with a small model in it."""
    folder.mkdir(parents=True)
    shape = {key: getattr(model.config, key) for key in SHAPE}
    values = {"vocab_size": model.config.vocab_size} | shape | layout.config | config
    text = json.dumps({key: value for key, value in values.items() if value is not None})
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    if layout.tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(layout.tokenizer), encoding="utf-8")
    write_weights(folder / layout.file, layout.names(published(model)))
    return folder


def write_weights(path: Path, named: Named) -> None:
    if path.suffix == ".safetensors":
        save_file({name: each.contiguous() for name, each in named.items()}, path)
    else:
        torch.save(named, path, _use_new_zipfile_serialization=False)  # as before torch 1.6
