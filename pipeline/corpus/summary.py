"""A corpus as rows for people: what each step took out of it, and a few of the documents that were dropped."""

from typing import Any


def funnel_rows(totals: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (step, documents, dropped, changed) from the totals of a corpus' manifest."""
    return [
        {
            "step": step["name"],
            "documents": f"{step['documents_out']:,} of {step['documents_in']:,}",
            "dropped": _counted(step["dropped"]),
            "changed": _counted(step["done"]) or (f"{step['edited']:,} documents" if step["edited"] else ""),
        }
        for step in totals.get("funnel", [])
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items(), key=lambda each: -each[1]))


def example_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of (reason, where, text) from a corpus' `dropped.json`; of a restricted corpus the texts are empty."""
    return [
        {
            "reason": each["reason"],
            "where": f"{each['file']} line {each['line']}" if "file" in each else each["id"],
            "text": " ".join(each.get("text", "").split()),
        }
        for each in sorted(report["examples"], key=lambda each: str(each["reason"]))
    ]
