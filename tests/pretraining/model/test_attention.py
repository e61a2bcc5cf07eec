"""Attention on a CPU: packed sequences in groups, the same as each by itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.pretraining.model.attention import packed_attention
from pipeline.pretraining.model.layout import PAIRS, Layout

HEADS, SIZE = 3, 8
CPU = torch.device("cpu")
LENGTHS = [[5, 64, 17, 33, 0, 32, 31, 9, 16, 1], [100] * 30 + [97, 37], [600, 513, 512, 8], [1]]


def layout_of(lengths: list[int]) -> Layout:
    return Layout.of(np.array(lengths, np.int32), CPU)


def by_itself(qkv: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    out = []
    for each in qkv.split(lengths):
        query, key, value = each.view(len(each), 3, HEADS, SIZE).permute(1, 2, 0, 3)
        out.append(F.scaled_dot_product_attention(query, key, value).transpose(0, 1).reshape(len(each), HEADS * SIZE))
    return torch.cat(out)


def passed(function, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
    given = qkv.clone().requires_grad_()
    out = function(given)
    out.backward(torch.sin(torch.arange(out.numel())).view_as(out).to(out.dtype))
    return out.detach(), given.grad


@pytest.mark.parametrize("lengths", LENGTHS)
def test_values_and_gradients_are_those_of_each_sequence_by_itself(lengths: list[int]) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 3 * HEADS * SIZE, dtype=torch.float64)
    expected = passed(lambda given: by_itself(given, lengths), qkv)
    layout = layout_of(lengths)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)):
        found = passed(lambda given: packed_attention(given, HEADS, layout), qkv.to(dtype))
        for one, other in zip(found, expected):
            torch.testing.assert_close(one.double(), other, atol=close, rtol=close)


def test_the_same_sequences_give_the_same_bits_again() -> None:
    layout, qkv = layout_of(LENGTHS[0]), torch.randn(sum(LENGTHS[0]), 3 * HEADS * SIZE).bfloat16()
    once, again = (passed(lambda given: packed_attention(given, HEADS, layout), qkv) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(once, again))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_each_sequence_is_in_one_group_that_is_no_larger_than_the_cache(lengths: list[int]) -> None:
    groups = layout_of(lengths).groups
    ends = np.cumsum(lengths).tolist()
    expected = [(end - length, end) for end, length in zip(ends, lengths) if length]
    assert sorted(span for group in groups for span in group.spans) == expected
    for group in groups:
        assert len(group.spans) == 1 or len(group.spans) * group.length**2 <= PAIRS
        assert (group.mask is None) == all(end - start == group.length for start, end in group.spans)


def test_an_empty_batch_has_an_empty_gradient() -> None:
    given = torch.empty(0, 3 * HEADS * SIZE, requires_grad=True)
    packed_attention(given, HEADS, layout_of([])).sum().backward()
    assert given.grad is not None
    assert given.grad.shape == given.shape
