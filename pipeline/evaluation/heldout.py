"""How well the encoder predicts held-out text: the pretraining objectives on documents it never saw.

Scored with transformers and the exported checkpoint, so that what is measured is what users load. The masks are fixed
by the dataset. The entropy of the same text's tokens says what knowing their frequencies alone would reach. A model
whose head nothing has trained, or that came without it, has no score of it.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.dataset.batches import Batch, heldout_batches
from pipeline.dataset.samples import Samples
from pipeline.evaluation.finetune import padded
from pipeline.evaluation.metrics import unigram_entropy
from pipeline.progress import track

SAMPLES_AT_ONCE = 64
THROUGH: Mapping[str, frozenset[str]] = {
    "masked-LM": frozenset({"masked-LM transform", "masked-LM bias"}),
    "next-sentence": frozenset({"pooler", "next-sentence"}),
}
"""The parts of a model that its predictions go through, of those that a model from elsewhere may lack (`HEADS`)."""


def objectives_of(samples: Samples) -> list[str]:
    """What there is to predict."""
    return ["masked-LM"] if samples.config.pairs == "none" else list(THROUGH)


@torch.no_grad()
def heldout_scores(
    model_folder: Path, samples: Samples, limit: int, objectives: Collection[str] | None = None
) -> dict[str, float]:
    """Masked-LM loss (nats a prediction) and accuracy, the tokens' unigram entropy; of pairs also next-sentence's.

    Of these objectives alone, where the model isn't up to all.
    """
    objectives = objectives_of(samples) if objectives is None else objectives
    from transformers import BertForPreTraining

    model = BertForPreTraining.from_pretrained(model_folder, local_files_only=True).eval()
    loss = right = predictions = sentence_loss = sentence_right = sentences = 0.0
    counts = np.zeros(model.config.vocab_size, np.int64)
    batches = list(heldout_batches(samples, limit=limit, micro_batch_size=SAMPLES_AT_ONCE))
    for batch in track(batches, "scoring held-out samples", len(batches)):
        labels = torch.from_numpy(batch.masked_lm_labels)
        following = torch.from_numpy(batch.next_sentence_label)
        hidden, sentence = _outputs(model, batch)
        logits = model.cls.predictions(hidden[torch.from_numpy(batch.masked_positions)])
        loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        right += float((logits.argmax(-1) == labels).sum())
        sentence_loss += float(torch.nn.functional.cross_entropy(sentence, following, reduction="sum"))
        sentence_right += float((sentence.argmax(-1) == following).sum())
        predictions, sentences = predictions + len(labels), sentences + len(following)
        counts += np.bincount(_original_ids(batch), minlength=len(counts))
    scores = {"unigram_entropy": unigram_entropy(counts), "samples": int(sentences), "predictions": int(predictions)}
    if "masked-LM" in objectives:
        scores["masked_lm_loss"] = loss / predictions
        scores["masked_lm_accuracy"] = right / predictions
    if "next-sentence" in objectives:
        scores["next_sentence_loss"] = sentence_loss / sentences
        scores["next_sentence_accuracy"] = sentence_right / sentences
    return scores


def _outputs(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """(last hidden states of the real tokens [T, h], next-sentence logits [S, 2])."""
    ids, mask = padded(list(_rows(batch, batch.input_ids)))
    types, _ = padded(list(_rows(batch, batch.token_type_ids)))
    out = model.bert(input_ids=ids, attention_mask=mask, token_type_ids=types)
    return out.last_hidden_state[mask.bool()], model.cls.seq_relationship(out.pooler_output)


def _rows(batch: Batch, values: np.ndarray[Any, Any]) -> Iterator[Tensor]:
    yield from torch.from_numpy(values).split(batch.lengths.tolist())  # type: ignore[no-untyped-call]


def _original_ids(batch: Batch) -> np.ndarray[Any, Any]:
    """The tokens that can be predicted, unmasked: all but [CLS] and [SEP]."""
    ids = batch.input_ids.copy()
    ids[batch.masked_positions] = batch.masked_lm_labels
    starts = np.concatenate(([0], np.cumsum(batch.lengths)))
    first_of_b = np.flatnonzero(np.diff(batch.token_type_ids) == 1) + 1
    specials = np.concatenate([starts[:-1], starts[1:] - 1, first_of_b - 1])
    return np.delete(ids, specials)
