"""A dataset's card as rows for people: what it holds, in numbers."""

from typing import Any

MEASURES = {
    "samples": ("samples", "{:,}"),
    "tokens in them": ("tokens", "{:,}"),
    "fill": ("fill", "{:.2%}"),
    "predictions a sample": ("masks_per_sample", "{:.2f}"),
    "second segments that don't follow": ("random_next_share", "{:.2%}"),
    "equal to an earlier one of the pass": ("duplicate_share", "{:.4%}"),
    "documents": ("documents", "{:,}"),
    "documents with text": ("documents_with_text", "{:,}"),
    "sentences": ("sentences", "{:,}"),
    "tokens of the corpus": ("source_tokens", "{:,}"),
    "tokens of chosen documents": ("chosen_tokens", "{:,}"),
    "share of these that is used": ("used_share", "{:.4%}"),
    "unknown tokens": ("unknown_share", "{:.4%}"),
    "sentences without words": ("sentences_not_segmented", "{:,}"),
}


def card_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (measure, train, held-out): what was counted, then how long samples are, then sources."""
    splits = {"train": "train", "held-out": "heldout"}
    rows = [
        {"measure": what}
        | {name: form.format(metrics[split][key]) if key in metrics[split] else "" for name, split in splits.items()}
        for what, (key, form) in MEASURES.items()
        if any(key in metrics[split] for split in splits.values())
    ]
    for table, title in (("fill_by_length", "samples of {} tokens"), ("sources", "tokens of source {}")):
        for key in sorted({key for split in splits.values() for key in metrics[split][table]}, key=_by_number):
            cells = {name: f"{metrics[split][table].get(key, 0):.2%}" for name, split in splits.items()}
            rows.append({"measure": title.format(key)} | cells)
    return rows


def _by_number(key: str) -> tuple[int, str]:
    """`up to 128` after `up to 64`."""
    last = key.rpartition(" ")[2]
    return (int(last) if last.isdecimal() else 0, key)
