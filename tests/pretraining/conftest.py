"""One small dataset for all training tests, and trainings that are run once and looked at by many."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import PretrainingConfig
from pipeline.launching import LAUNCHERS
from pipeline.pretraining.pretrain import pretrain
from pipeline.store import Artifact, Store
from tests.pretraining.fp16_worker import launch_in_fp16
from tests.small import Small, small_home, untrained_copy

TINY = PretrainingConfig(
    name="tiny",
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=48,
    hidden_dropout_prob=0.0,
    initializer_range=0.1,
    train_batch_size=30,
    max_steps=12,
    warmup_share=0.34,
    learning_rate=5e-3,
    weight_decay=0.1,
    gradient_clipping=0.5,
    log_every=5,
)
Training = Callable[..., Artifact]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A home with a corpus, a vocabulary and a dataset."""
    return small_home(tmp_path_factory.mktemp("small") / "home")


@pytest.fixture(scope="session")
def tiny() -> PretrainingConfig:
    """A model and a training that take a second; clipping and decay are strong enough to show."""
    return TINY


@pytest.fixture(scope="session")
def training(small: Small) -> Training:
    """`training(key=value…)`: TINY with that, really trained on two ranks, once a session."""

    @cache
    def run(items: tuple[tuple[str, Any], ...]) -> Artifact:
        config = TINY.model_copy(update=dict(items))
        with pytest.MonkeyPatch.context() as patch:
            if config.precision == "fp16":
                patch.setitem(LAUNCHERS, "local", launch_in_fp16)
            # Forced, for the ZeRO stage and the micro-batch are no part of the fingerprint.
            return pretrain(config, small.dataset, store=small.store, force=True)

    return lambda **changes: run(tuple(sorted(changes.items())))


@pytest.fixture
def fresh(small: Small, tmp_path: Path) -> Store:
    """The store of a copy of the small home, in which nothing was trained."""
    return untrained_copy(small, tmp_path / "fresh")
