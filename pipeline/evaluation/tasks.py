"""Labelled tasks. A task gives examples to train and to test on; it names neither model nor score.

`metadata` needs no labels of the user's: what is known of each held-out document (its date, source, group or language)
is the label of its passages. No document of pretraining is in it, and none is in both of its splits.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from pipeline.corpus.document import Document, read_documents
from pipeline.dataset.text.sentences import split_sentences
from pipeline.errors import InputError
from pipeline.store import Artifact, Store

SPLITS = ("train", "test")


@dataclass(frozen=True)
class LabelledText:
    """An example of a classification task."""

    id: str
    text: str
    label: str


@dataclass(frozen=True)
class Examples:
    """A task's splits."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]


def metadata(
    corpus: Artifact,
    store: Store,
    *,
    label: Literal["date", "source", "group", "lang"],
    boundaries: list[int] | None = None,
    passage_characters: Annotated[int, Field(ge=20)] = 200,
    train_examples: Annotated[int, Field(ge=2)] = 600,
    test_examples: Annotated[int, Field(ge=2)] = 600,
) -> Examples:
    """Passages of held-out documents, labelled by what is known of the document.

    `boundaries` are the years at which a new period begins, for `date`. Passages are whole sentences of about
    `passage_characters`. Each split takes as many of each class as there are at most, chosen by a hash.
    """
    found: dict[str, dict[str, list[LabelledText]]] = {split: defaultdict(list) for split in SPLITS}
    for entry in store.manifest(corpus).matching("heldout/"):
        for document in read_documents(store.blob(entry)):
            if (value := _label(document, label, boundaries)) is not None:
                split = SPLITS[_rank(f"split:{document.group}") % 2]
                found[split][value] += _passages(document, value, passage_characters)
    chosen = {
        split: _balanced(found[split], wanted)
        for split, wanted in zip(SPLITS, (train_examples, test_examples), strict=True)
    }
    for split in SPLITS:
        if len({example.label for example in chosen[split]}) < 2:
            raise InputError(
                f"The task `metadata` with label = {label!r} finds {len(found[split])} class(es) in its {split} part "
                f"of the held-out documents of {corpus}; it needs 2. Hold out more documents, or choose another label "
                f"or other boundaries."
            )
    return Examples(tuple(chosen["train"]), tuple(chosen["test"]))


def _label(document: Document, label: str, boundaries: list[int] | None) -> str | None:
    if label != "date":
        return str(getattr(document, label)) or None
    year = document.date[:4]
    if not year.isdigit():
        return None
    edges = sorted(boundaries or [])
    if not edges:
        return year
    place = bisect_right(edges, int(year))
    first = f"from {edges[place - 1]}" if place else ""
    last = f"before {edges[place]}" if place < len(edges) else ""
    return f"{first} {last}".strip()


def _passages(document: Document, label: str, characters: int) -> Iterator[LabelledText]:
    """Whole sentences, joined until they are long enough; a shorter rest is left out, unless it is all there is."""
    passage, number = "", 0
    for sentence in split_sentences(document.text):
        passage = f"{passage} {sentence}".strip()
        if len(passage) >= characters:
            yield LabelledText(f"{document.id}#{number}", passage[: 2 * characters], label)
            passage, number = "", number + 1
    if passage and number == 0:
        yield LabelledText(f"{document.id}#0", passage, label)


def _balanced(classes: Mapping[str, list[LabelledText]], wanted: int) -> list[LabelledText]:
    """At most `wanted` examples, as evenly over the classes as they allow, in an order that mixes them."""
    ranked = {label: sorted(each, key=lambda one: _rank(one.id)) for label, each in classes.items()}
    turns: Counter[str] = Counter()
    order = []
    for label in sorted(ranked):
        for example in ranked[label]:
            order.append((turns[label], _rank(example.id), example))
            turns[label] += 1
    return [example for _, _, example in sorted(order, key=lambda each: each[:2])[:wanted]]


def _rank(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


TASKS: Mapping[str, Callable[..., Examples]] = {"metadata": metadata}
