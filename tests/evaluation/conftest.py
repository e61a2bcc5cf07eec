"""One small home with a checkpoint, really trained for two steps, for all evaluation tests."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config import PretrainingConfig
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact
from tests.small import Small, small_home, store_of

# Wide initial weights, so that its outputs are far from equal.
CONFIG = PretrainingConfig(
    name="wide",
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
    hidden_dropout_prob=0.0,
    initializer_range=0.5,
    train_batch_size=8,
    max_steps=2,
    warmup_share=0.0,
)


@dataclass(frozen=True)
class Scored(Small):
    """A small home, and what there is to score."""

    checkpoint: Artifact
    model: Path
    """The checkpoint's Hugging Face folder."""


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    home = tmp_path_factory.mktemp("scored") / "home"
    small = small_home(home)
    store = store_of(home, BERTMILL_RANKS="1")
    checkpoint = pretrain(CONFIG, small.dataset, store=store)
    store.export(checkpoint, home / "exported")
    return Scored(store, small.corpus, small.vocabulary, small.dataset, checkpoint, home / "exported")
