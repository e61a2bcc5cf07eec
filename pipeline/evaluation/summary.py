"""An evaluation's scores as rows for people: each number beside the one it must be read with."""

from typing import Any


def score_rows(scores: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (what, score, beside) from the metrics of an evaluation's manifest."""
    heldout, rows = scores["heldout"], list[dict[str, str]]()
    if "masked_lm_loss" in heldout:
        entropy = f"unigram entropy of the same text {heldout['unigram_entropy']:.3f}"
        rows.append(_row("held-out masked-LM loss (nats)", f"{heldout['masked_lm_loss']:.3f}", entropy))
        rows.append(_row("held-out masked-LM accuracy", f"{heldout['masked_lm_accuracy']:.3f}", ""))
    if "next_sentence_accuracy" in heldout:
        accuracy = f"{heldout['next_sentence_accuracy']:.3f}"
        rows.append(_row("held-out next-sentence accuracy", accuracy, "chance 0.500"))
    for objective in scores.get("left_out", ()):
        rows.append(_row(f"held-out {objective} scores", "left out", "the model has no trained head for it"))
    for name, task in scores["tasks"].items():
        controls = ", ".join(
            f"{kind.replace('_', ' ')} {task[kind]['accuracy']:.3f}"
            for kind in ("random_weights", "majority", "tf_idf")
        )
        tuned = task["pretrained"]
        flag = f" ({tuned['collapsed_runs']} run(s) collapsed)" if tuned["collapsed_runs"] else ""
        low, high = tuned["interval"]
        rows.append(_row(f"{name} accuracy{flag}", f"{tuned['accuracy']:.3f} [{low:.3f}, {high:.3f}]", controls))
    return rows


def _row(what: str, score: str, beside: str) -> dict[str, str]:
    return {"what": what, "score": score, "beside": beside}
