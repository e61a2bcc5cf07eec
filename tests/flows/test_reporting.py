"""What the UI shows: references and counts, scores beside their controls, and never a text."""

import json
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.corpus import corpus
from flows.parameters import Run
from flows.reporting import report_artifact, report_card, report_dropped, report_fit, report_references, report_scores
from pipeline.config import EvaluationConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.stages import run_stage
from pipeline.store import Artifact, Recipe, Store
from tests.flows.conftest import User
from tests.flows.runs import artifacts_of
from tests.texts import corpus as table
from tests.texts import lines, rows, source, write

SCORES: dict[str, Any] = {
    "heldout": {
        "masked_lm_loss": 4.25,
        "unigram_entropy": 6.5,
        "masked_lm_accuracy": 0.375,
        "next_sentence_accuracy": 0.75,
    },
    "tasks": {},
}


def test_a_stages_card_shows_its_reference_and_counts_and_no_text(here: User, preset: str) -> None:
    state = corpus(Run(preset=preset), return_state=True)
    reference = state.result()
    (card,) = (each for each in artifacts_of(state.state_details.flow_run_id) if each.key == "corpus")
    assert card.type == "markdown"
    text = str(card.data)
    assert text.startswith(f"# `{reference}`\n")
    assert "| rows_read | 30 |" in text
    assert "| documents train |" in text
    assert "| sources mine licence | own |" in text
    assert f"`bertmill show {reference}`" in text
    for row in rows(30):
        assert row["text"].partition("\n")[0] not in text


def test_how_a_vocabulary_fits_is_a_table_without_text(here: User, preset: str, store: Store) -> None:
    corpus(Run(preset=preset))
    made = run_stage("vocabulary", Run(preset=preset).resolved(), store)
    (table_,) = artifacts_of(reported(report_fit, store, made))
    assert table_.key == "fit"
    measures = {row["measure"]: row["this"] for row in json.loads(str(table_.data))}
    assert measures["entries"] == f"{store.manifest(made).metrics['size']:,}"
    assert {"unknown tokens", "pieces per word", "Latin: words"} <= measures.keys()


def test_what_a_dataset_holds_is_a_table_without_text(here: User, preset: str, store: Store) -> None:
    run = Run(preset=preset)
    for stage in ("corpus", "vocabulary", "dataset"):
        made = run_stage(stage, run.resolved(), store)
    (table_,) = artifacts_of(reported(report_card, store, made))
    assert table_.key == "card"
    measures = {row["measure"]: row["train"] for row in json.loads(str(table_.data))}
    assert measures["samples"] == f"{store.manifest(made).metrics['train']['samples']:,}"
    assert {"fill", "share of these that is used", "tokens of source mine"} <= measures.keys()


def test_what_each_step_took_out_is_a_table_and_so_are_some_of_the_documents(
    here: User, store: Store, tmp_path: Path
) -> None:
    given = [*rows(30), {"id": "again", "text": rows(1)[0]["text"].upper()}]
    path = write(tmp_path / "given.jsonl", lines(given))
    for restricted in (False, True):
        made = ingest_corpus(table(source(path), restricted=restricted), store=store)
        tables = {each.key: json.loads(str(each.data)) for each in artifacts_of(reported(report_dropped, store, made))}
        assert tables["funnel"][0] == {"step": "read", "documents": "31 of 31", "dropped": "", "changed": ""}
        (dropped,) = tables["dropped"]
        assert (dropped["reason"], dropped["where"]) == ("duplicate text", "mine/again")
        assert dropped["text"] == ("" if restricted else "THE MILL NUMBER 0 STANDS AT THE RIVER. IT GRINDS 0 SACKS.")


def test_scores_are_a_table_with_what_they_are_read_beside(here: User, store: Store) -> None:
    scored = evaluation(store)
    run = reported(report_scores, store, scored)
    (table,) = artifacts_of(run)
    assert (table.key, table.type) == ("scores", "table")
    first = json.loads(str(table.data))[0]
    assert (first["what"], first["score"]) == ("held-out masked-LM loss (nats)", "4.250")
    assert first["beside"] == "unigram entropy of the same text 6.500"


def test_a_card_leads_to_what_the_artifact_was_made_from(here: User, store: Store) -> None:
    parent = evaluation(store)
    (card,) = artifacts_of(reported(report_artifact, store, evaluation(store, parents=(parent,))))
    assert f"- from `{parent.reference}`" in str(card.data)


def test_a_runs_references_are_listed_in_order(here: User) -> None:
    (card,) = artifacts_of(reported(report_references, ["corpus/a@1", "vocabulary/b@2"]))
    assert str(card.data).split("`")[1::2] == ["corpus/a@1", "vocabulary/b@2"]


def evaluation(store: Store, **more: Any) -> Artifact:
    """A committed evaluation with known scores."""
    with store.draft(Recipe("evaluation", EvaluationConfig(name="small"), 1, **more)) as draft:
        return draft.commit(totals={"samples": 10}, metrics=SCORES)


@flow(name="reported")
def reported(report: Any, *given: Any) -> Any:
    """Call a report within a flow; returns the flow run's id."""
    report(*given)
    return flow_run.id
