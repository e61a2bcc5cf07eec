"""Cross-entropies in blocks of rows are torch's; padding of the vocabulary and ignored labels have no part in them."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.pretraining.model.cross_entropy import NUMBERS, CrossEntropies

SIZE, PADDED = 500, 512


@pytest.mark.parametrize("rows", [0, 1, 2 * NUMBERS // PADDED + 3])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_are_torchs(rows: int, dtype: torch.dtype, close: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(rows, PADDED).to(dtype).requires_grad_(), torch.randint(0, SIZE, (rows,))
    labels[::7] = -100  # which fill up a buffer
    weights = torch.rand(rows)
    each, is_right = CrossEntropies.apply(logits, labels, SIZE)
    (each * weights).sum().backward()
    found, logits.grad = logits.grad, None

    exact = logits[:, :SIZE].float()
    expected = F.cross_entropy(exact, labels, reduction="none")
    (expected * weights).sum().backward()
    torch.testing.assert_close(each, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, logits.grad, atol=close, rtol=close)
    assert torch.equal(is_right, exact.argmax(-1) == labels)
    assert found[:, SIZE:].abs().sum() == 0
