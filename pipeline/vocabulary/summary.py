"""A vocabulary's card as rows for people: how it fits held-out text beside other vocabularies, examples of the text."""

from typing import Any

MEASURES = {
    "entries": ("size", "{:,}"),
    "free slots": ("free_slots", "{:,}"),
    "entries no text reaches": ("unreachable_entries", "{:,}"),
    "held-out words": ("heldout_words", "{:,}"),
    "unknown tokens": ("unknown_rate", "{:.4%}"),
    "unknown words": ("unknown_words", "{:.4%}"),
    "pieces per word": ("pieces_per_word", "{:.4f}"),
    "characters per token": ("characters_per_token", "{:.3f}"),
}


def fit_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (measure, this vocabulary, each that it is set beside); of the scripts those of most words come first."""
    cards = {"this": metrics} | metrics.get("beside", {})
    rows = [
        {"measure": what} | {name: form.format(card[key]) for name, card in cards.items()}
        for what, (key, form) in MEASURES.items()
    ]
    for script in metrics["scripts"]:
        seen = {name: card["scripts"].get(script) for name, card in cards.items()}
        rows.append({"measure": f"{script}: words"} | _cells(seen, "words", "{:,}"))
        rows.append({"measure": f"{script}: pieces per word"} | _cells(seen, "pieces_per_word", "{:.4f}"))
        rows.append({"measure": f"{script}: unknown words"} | _cells(seen, "unknown_words", "{:.4%}"))
    return rows


def _cells(seen: dict[str, Any], key: str, form: str) -> dict[str, str]:
    return {name: form.format(card[key]) if card else "" for name, card in seen.items()}


def text_rows(card: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (what, text, pieces, times) from `card.json`; none where the corpus is restricted."""
    rows = [
        {"what": "split word", "text": each["word"], "pieces": each["pieces"], "times": f"{each['count']:,}"}
        for each in card.get("split_words", [])
    ]
    return rows + [
        {"what": "dropped character", "text": each["character"], "pieces": "", "times": f"{each['count']:,}"}
        for each in card.get("dropped_characters", [])
    ]
