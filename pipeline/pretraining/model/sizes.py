"""What of the model's sizes is known without a model, and without torch."""

MULTIPLE = 64
"""Of rows of the vocabulary's tables: matrix products are fastest so."""


def padded_rows(vocabulary_size: int) -> int:
    """Rows that the tables of a vocabulary have in memory; exports have its own alone."""
    return -(-vocabulary_size // MULTIPLE) * MULTIPLE
