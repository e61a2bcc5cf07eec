"""The formula is what torch counts of the model's products, and the published figures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import PretrainingConfig
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.planning.flops import batch_flops, flops_per_token
from pipeline.pretraining.planning.lengths import Lengths
from pipeline.pretraining.planning.rehearsal import made_up_batch


def test_it_is_what_torch_counts_of_packed_sequences_forward_and_backward(tiny: PretrainingConfig) -> None:
    lengths = [16, 32, 32, 48]  # of no padding in the groups of the CPU's attention
    batch = made_up_batch(lengths, 128, 0.15)
    model = BertForPreTraining(tiny, 128)
    with FlopCounterMode(display=False) as counter:
        losses = model(TensorBatch.of(batch, torch.device("cpu")))
        (losses.masked_lm + losses.next_sentence).backward()
    squares = sum(length**2 for length in lengths)
    assert counter.get_total_flops() == batch_flops(
        tiny, 128, tokens=sum(lengths), squares=squares, sequences=len(lengths), predictions=batch.predictions
    )


@pytest.mark.parametrize(
    ("length", "share", "base", "large"), [(128, 1, 668, 2_044), (128, 0.15, 545, 1_879), (512, 0.15, 588, 1_992)]
)
def test_a_token_of_the_published_models_takes_what_is_known_of_them(
    length: int, share: float, base: int, large: int
) -> None:
    """In MFLOP: 6·12·L·h² + 12·L·s·h + 6·f·(h² + h·V), and what the next-sentence head adds, under a thousandth."""
    bert = PretrainingConfig(name="base")
    bigger = PretrainingConfig(
        name="large", hidden_size=1_024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4_096
    )
    lengths = Lengths.of(torch.full((3,), length).numpy())
    assert flops_per_token(bert, 30_528, lengths, share) / 1e6 == pytest.approx(base, rel=1e-3)
    assert flops_per_token(bigger, 30_528, lengths, share) / 1e6 == pytest.approx(large, rel=1e-3)
