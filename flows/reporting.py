"""What the Prefect UI shows of an artifact: its reference and counts, never its text; and a table of scores."""

import json
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipeline.corpus.summary import example_rows, funnel_rows
from pipeline.dataset.summary import card_rows
from pipeline.evaluation.summary import score_rows
from pipeline.store import Artifact, Store
from pipeline.vocabulary.summary import fit_rows


def report_artifact(store: Store, artifact: Artifact) -> None:
    """The artifact's card: where it is, what it was made from, how much it holds."""
    manifest = store.manifest(artifact)
    size = sum(entry.size for entry in manifest.files)
    parents = "".join(f"- from `{parent.reference}`\n" for parent in manifest.parents)
    totals = "".join(f"| {name} | {value} |\n" for name, value in _flat(manifest.totals))
    create_markdown_artifact(
        f"# `{artifact.reference}`\n\n"
        f"{len(manifest.files)} files, {size / 1e6:,.1f} MB, made {manifest.created_at[:19]} UTC in {store.url}\n\n"
        f"{parents}\n`bertmill show {artifact.reference}`\n\n| total | |\n|---|---:|\n{totals}",
        key=artifact.kind,
        description=f"The {artifact.kind} of this run",
    )


def report_scores(store: Store, evaluation: Artifact) -> None:
    """The scores, each beside what it must be read with."""
    create_table_artifact(
        table=list(score_rows(store.manifest(evaluation).metrics)),
        key="scores",
        description=f"Scores of {evaluation.reference}",
    )


def report_dropped(store: Store, corpus: Artifact) -> None:
    """What each step of cleaning took out, and a few of the documents: of a restricted corpus without their text."""
    create_table_artifact(
        table=list(funnel_rows(store.manifest(corpus).totals)),
        key="funnel",
        description=f"What each step took out of {corpus.reference}",
    )
    report = json.loads(store.file(corpus, "dropped.json").read_text(encoding="utf-8"))
    create_table_artifact(
        table=list(example_rows(report)),
        key="dropped",
        description=f"Some of what {corpus.reference} left out",
    )


def report_fit(store: Store, vocabulary: Artifact) -> None:
    """How the vocabulary fits held-out text, beside those it is compared with: numbers alone."""
    create_table_artifact(
        table=list(fit_rows(store.manifest(vocabulary).metrics)),
        key="fit",
        description=f"How {vocabulary.reference} fits held-out text",
    )


def report_card(store: Store, dataset: Artifact) -> None:
    """What the dataset holds: numbers alone."""
    create_table_artifact(
        table=list(card_rows(store.manifest(dataset).metrics)),
        key="card",
        description=f"What {dataset.reference} holds",
    )


def report_references(references: list[str]) -> None:
    """All that a run made or found."""
    create_markdown_artifact(
        "# Artifacts\n\n" + "".join(f"- `{reference}`\n" for reference in references),
        key="artifacts",
        description="The artifacts of this run",
    )


def _flat(totals: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Counts within counts as rows: `documents train`, `documents held-out`."""
    rows: list[tuple[str, str]] = []
    for name, value in totals.items():
        if name == "funnel" or (above == "sources" and isinstance(value, list)):
            continue  # a table of its own; runs of a dataset's rows
        words = f"{above} {name}".strip()
        if isinstance(value, dict):
            rows += _flat(value, words)
        elif isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value):
            for each in value:
                rows += _flat({key: of for key, of in each.items() if key != "name"}, f"{words} {each['name']}")
        elif value != "":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            rows.append((words, f"{value:,}" if is_number else str(value)))
    return rows
