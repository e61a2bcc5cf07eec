"""Fine-tune an exported encoder on a classification task, and predict.

Devlin et al. 2019, appendix A.3, with what its users have learned since: AdamW with bias correction, a linear warmup
and fall, weight decay. A plain loop over `AutoModel` and a linear layer, deterministic for its seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import EvaluationConfig
from pipeline.evaluation.tasks import Examples

CLIP = 1.0


class Classifier(nn.Module):
    """An encoder of transformers' with a linear layer on its pooled [CLS] or on the mean of its last hidden states."""

    def __init__(self, encoder: Any, labels: int, pooling: Literal["cls", "mean"]) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(encoder.config.hidden_dropout_prob)
        self.linear = nn.Linear(encoder.config.hidden_size, labels)
        nn.init.normal_(self.linear.weight, std=encoder.config.initializer_range)
        nn.init.zeros_(self.linear.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and attention mask, [S, L] int64, to logits [S, labels]."""
        encoded = self.encoder(input_ids=ids, attention_mask=mask)
        if self.pooling == "cls":
            pooled = encoded.pooler_output
        else:
            pooled = (encoded.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits


def finetune(
    model_folder: Path, examples: Examples, config: EvaluationConfig, *, seed: int, random_weights: bool = False
) -> list[str]:
    """Train on the task's train part and return the predicted labels of its test part.

    `random_weights` takes the encoder's shape alone: what it scores is what fine-tuning does without pretraining.
    """
    from transformers import AutoConfig, AutoModel

    labels = sorted({example.label for example in examples.train})
    numbers = {label: number for number, label in enumerate(labels)}
    train = encoded(model_folder, [example.text for example in examples.train])
    targets = torch.tensor([numbers[example.label] for example in examples.train])
    test = encoded(model_folder, [example.text for example in examples.test])

    torch.manual_seed(seed)
    if random_weights:
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(model_folder, local_files_only=True))
    else:
        encoder = AutoModel.from_pretrained(model_folder, local_files_only=True)
    model = Classifier(encoder, len(labels), config.pooling)
    _train(model, train, targets, config, seed)
    return [labels[number] for number in _predict(model, test, config.batch_size)]


def encoded(model_folder: Path, texts: Sequence[str]) -> list[Tensor]:
    """The texts' token ids, cut to what the model takes."""
    from transformers import AutoConfig, AutoTokenizer

    longest = AutoConfig.from_pretrained(model_folder, local_files_only=True).max_position_embeddings
    tokenizer = AutoTokenizer.from_pretrained(model_folder, local_files_only=True)
    ids = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return [torch.tensor(each) for each in ids]


def _train(model: Classifier, texts: list[Tensor], targets: Tensor, config: EvaluationConfig, seed: int) -> None:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )
    batches_each = -(-len(texts) // config.batch_size)
    steps = config.epochs * batches_each
    warmup = max(1, round(config.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
    )
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(config.epochs):
        for chosen in torch.randperm(len(texts), generator=order).split(config.batch_size):  # type: ignore[no-untyped-call]
            ids, mask = padded([texts[index] for index in chosen])
            F.cross_entropy(model(ids, mask), targets[chosen]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def _predict(model: Classifier, texts: list[Tensor], batch_size: int) -> list[int]:
    """Predictions in the texts' order; read in the order of their lengths, to pad little."""
    model.eval()
    predictions = [0] * len(texts)
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(texts), batch_size):
        chosen = by_length[start : start + batch_size]
        ids, mask = padded([texts[index] for index in chosen])
        best = model(ids, mask).argmax(-1).tolist()
        for index, prediction in zip(chosen, best, strict=True):
            predictions[index] = prediction
    return predictions


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(input_ids [S, L] int64 padded with 0, attention_mask [S, L] int64)."""
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask
