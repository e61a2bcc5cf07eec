"""`pipeline.load`: Hugging Face's own objects, with the bytes that the store has."""

import gc
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from transformers import BertForPreTraining, PreTrainedTokenizerBase

import pipeline
from pipeline.config import DatasetConfig, EvaluationConfig, PretrainingConfig
from pipeline.dataset.build import build_dataset
from pipeline.errors import UnknownReference
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact, Recipe
from pipeline.vocabulary.tokenizer import load_tokenizer
from tests.small import Small, small_home, store_of

CONFIG = PretrainingConfig(
    name="smallest",
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
    max_position_embeddings=48,
    train_batch_size=2,
    max_steps=1,
    warmup_share=0.0,
)
TEXT = "The river ran past a lantern.\n河"


@dataclass(frozen=True)
class Loadable(Small):
    """A small home with one of each kind that can be loaded; the samples are in several files."""

    checkpoint: Artifact


@pytest.fixture(scope="module")
def loadable(tmp_path_factory: pytest.TempPathFactory) -> Loadable:
    home = tmp_path_factory.mktemp("loadable") / "home"
    small = small_home(home)
    config = DatasetConfig(name="parted", max_seq_length=48, rows_per_shard=20)
    dataset = build_dataset(config, small.corpus, small.vocabulary, store=small.store)
    store = store_of(home, BERTMILL_RANKS="1")
    return Loadable(store, small.corpus, small.vocabulary, dataset, pretrain(CONFIG, dataset, store=store))


@pytest.fixture(autouse=True)
def here(loadable: Loadable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's store is the one of the small home."""
    monkeypatch.setenv("BERTMILL_HOME", str(loadable.store.settings.home))


def test_a_vocabulary_gives_its_tokenizer(loadable: Loadable, tmp_path: Path) -> None:
    tokenizer = pipeline.load("vocabulary/small")
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    words = loadable.store.file(loadable.vocabulary, "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert tokenizer.get_vocab() == {word: number for number, word in enumerate(words)}
    assert tokenizer(TEXT)["input_ids"] == load_tokenizer(loadable.store, loadable.vocabulary).encode(TEXT).ids
    assert (tokenizer.mask_token, tokenizer.pad_token_id) == ("[MASK]", 0)


def test_a_dataset_gives_its_splits_with_the_rows_of_all_files_in_order(loadable: Loadable) -> None:
    loaded = pipeline.load(loadable.dataset.reference)
    assert isinstance(loaded, DatasetDict)
    assert set(loaded) == {"train", "heldout"}
    for split, samples in loaded.items():
        assert isinstance(samples, Dataset)
        entries = loadable.store.manifest(loadable.dataset).matching(f"{split}/")
        assert len(entries) > 2
        files = [loadable.store.file(loadable.dataset, entry.path) for entry in entries]
        stored = [row for file in files for row in pa.ipc.open_file(str(file)).read_all().to_pylist()]
        assert samples.to_list() == stored


def test_a_pretraining_gives_the_model_with_the_weights_that_are_stored(loadable: Loadable) -> None:
    model = pipeline.load("pretraining/smallest@latest")
    gc.collect()
    assert isinstance(model, BertForPreTraining)
    assert not model.training
    stored = load_file(loadable.store.file(loadable.checkpoint, "model/model.safetensors"))
    own = model.state_dict()
    assert set(stored) <= set(own)
    assert all(torch.equal(own[name], weights) for name, weights in stored.items())
    shared = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    assert {name for name in own if name not in stored} <= {*shared, "cls.predictions.decoder.bias"}
    assert all(own[name].data_ptr() == own[other].data_ptr() for name, other in shared.items())


def test_a_loaded_model_reads_what_a_loaded_tokenizer_writes() -> None:
    tokenizer, model = pipeline.load("vocabulary/small"), pipeline.load("pretraining/smallest")
    with torch.no_grad():
        answer = model(**tokenizer(["a river", "bread with flour under the roof"], padding=True, return_tensors="pt"))
    assert answer.prediction_logits.shape[-1] == len(tokenizer)
    assert torch.isfinite(answer.prediction_logits).all()
    assert torch.isfinite(answer.seq_relationship_logits).all()


def test_any_other_kind_is_refused_in_a_sentence(loadable: Loadable) -> None:
    with loadable.store.draft(Recipe("evaluation", EvaluationConfig(name="scored"), 1)) as draft:
        evaluation = draft.commit(totals={})
    for other in (loadable.corpus, evaluation):
        with pytest.raises(UnknownReference) as error:
            pipeline.load(other.reference)
        assert str(error.value).startswith(f"{other} is ")
        assert str(error.value).endswith("load() takes a pretraining, a vocabulary or a dataset.")


def test_a_reference_that_names_nothing_is_told_with_the_nearest_that_does() -> None:
    with pytest.raises(UnknownReference, match="has no vocabulary/smal. Did you mean 'vocabulary/small'"):
        pipeline.load("vocabulary/smal")
