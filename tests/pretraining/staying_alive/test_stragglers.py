"""A rank that is slow is told while training goes on: by hand, and in a training of two of which one is slow."""

import logging
import socket

import pytest
import torch

from pipeline.config import PretrainingConfig
from pipeline.launching import LAUNCHERS
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.staying_alive.stragglers import REMEMBERED, Share, Stopwatch, Stragglers, lagging
from pipeline.store import Store
from tests.pretraining.staying_alive.slow_worker import launch_with_a_slow_one
from tests.small import Small


def shares(*seconds: float, tokens: tuple[float, ...] = ()) -> list[Share]:
    """Of ranks on hosts of their own."""
    of = tokens or (1_000.0,) * len(seconds)
    return [Share(rank, f"node{rank}", *each) for rank, each in enumerate(zip(seconds, of, strict=True))]


def ranks_lagging(found: list[Share]) -> list[int]:
    return [each["rank"] for each in lagging(found)]


def test_a_rank_is_compared_with_the_middle_one_and_of_two_with_the_other() -> None:
    assert ranks_lagging(shares(0.4, 0.4, 0.8, 0.4)) == [2]
    assert ranks_lagging(shares(0.4, 0.9)) == [1]
    assert ranks_lagging(shares(0.9, 0.4)) == [0]
    assert ranks_lagging(shares(0.4, 0.41, 0.38, 0.45)) == []
    assert ranks_lagging(shares(0.8, 0.8, 0.8, 0.4)) == [], "one that is fast makes no others slow"
    assert lagging([]) == []


def test_a_rank_that_has_more_tokens_by_design_may_take_longer_by_as_much() -> None:
    assert ranks_lagging(shares(0.4, 0.8, tokens=(500, 1_000))) == []
    assert ranks_lagging(shares(0.4, 1.2, tokens=(500, 1_000))) == [1]
    assert ranks_lagging(shares(0.4, 0.3, tokens=(1_000, 10))) == [], "what a step costs at least isn't the tokens'"
    assert ranks_lagging(shares(0.4, 0.4, tokens=(0, 0))) == []


def test_a_rank_is_told_once_until_it_has_recovered() -> None:
    said = Stragglers()
    assert said.new(lagging(shares(0.4, 0.55))) == [], "not yet by a lot"
    (sentence,) = said.new(lagging(shares(0.4, 0.8)))
    assert sentence.startswith(
        "Rank 1 on node1 is slow, and all wait for it: it takes 0.8 s for its part of a step, 2.0"
    )
    assert said.new(lagging(shares(0.4, 0.9))) == []
    assert said.new(lagging(shares(0.4, 0.55))) == [], "not yet recovered"
    assert said.new(lagging(shares(0.4, 0.9))) == []
    assert said.new(lagging(shares(0.4, 0.4))) == []
    assert len(said.new(lagging(shares(0.4, 0.9)))) == 1
    (other,) = said.new(lagging(shares(0.4, 0.9, 0.4, 0.7)))
    assert other.startswith("Rank 3 on node3")


def test_a_ranks_share_is_the_median_of_its_last_steps_with_what_its_loader_took() -> None:
    stopwatch = Stopwatch(3, torch.device("cpu"))
    for step in range(REMEMBERED + 5):
        assert (stopwatch.share() is None) == (step < REMEMBERED)
        stopwatch.start()
        stopwatch.stop(1_000.0 if step < 12 else 500.0, tokens=40 + step % 2)
    share = stopwatch.share()
    assert share is not None
    assert (share.rank, share.host, share.tokens) == (3, socket.gethostname(), 40.5)
    assert share.seconds == pytest.approx(500, abs=100), "seven pauses of twenty count for nothing"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_ranks_share_is_what_the_device_takes() -> None:
    device, seconds = torch.device("cuda"), []
    matrix = torch.randn(2_048, 2_048, device=device)
    for products in (1, 50):
        stopwatch = Stopwatch(0, device)
        for _ in range(REMEMBERED):
            stopwatch.start()
            for _ in range(products):
                torch.mm(matrix, matrix)
            stopwatch.stop(0.0, tokens=1)
        torch.cuda.synchronize()
        share = stopwatch.share()
        assert share is not None
        seconds.append(share.seconds)
    assert seconds[1] > 10 * seconds[0]


def test_the_rank_that_is_slow_is_named_with_its_host_and_no_other(
    fresh: Store,
    small: Small,
    tiny: PretrainingConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", launch_with_a_slow_one)
    config = tiny.model_copy(update={"max_steps": 30, "train_batch_size": 120, "log_every": 5})
    with caplog.at_level(logging.WARNING, "bertmill"):
        pretrain(config, small.dataset, store=fresh)
    (warning,) = (record.message for record in caplog.records if "is slow" in record.message)
    assert warning.startswith(f"Rank 1 on {socket.gethostname()} is slow, and all wait for it: it takes ")
