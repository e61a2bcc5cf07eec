"""AdamW (Loshchilov and Hutter 2019) with bias correction; no decay on biases and LayerNorm weights."""

import torch

from pipeline.config import PretrainingConfig
from pipeline.pretraining.model.bert import BertForPreTraining


def make_optimizer(model: BertForPreTraining, config: PretrainingConfig) -> torch.optim.AdamW:
    """Torch's fused AdamW over two groups: with decay, and without."""
    decayed, plain = list[torch.nn.Parameter](), list[torch.nn.Parameter]()
    for parameter in model.parameters():
        (decayed if parameter.ndim > 1 else plain).append(parameter)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )
