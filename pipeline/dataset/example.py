"""A sample: [CLS] A [SEP] B [SEP], as it is stored."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One row of the dataset. Token types are 0 before `segment_boundary` and 1 from it on."""

    input_ids: list[int]
    segment_boundary: int
    """Index of B's first token."""
    word_starts: list[int]
    """Indices of the tokens at which a word starts; a word ends at the next one or at a special token."""
    is_random_next: bool
    own_tokens: int
    """How many tokens are the document's own, for the share that is used."""
