"""The whole way: text in, a pretrained and evaluated encoder out.

    corpus -> vocabulary -> dataset -> pretraining -> evaluation

Between the stages go references, a few dozen characters each. A finished stage is found by its own flow, so a second
run recomputes nothing and a killed one goes on where it was.
"""

from prefect import flow

from flows.corpus import corpus
from flows.dataset import dataset
from flows.evaluation import evaluation
from flows.parameters import Run
from flows.pretraining import pretraining
from flows.reporting import report_references, report_scores
from flows.vocabulary import vocabulary
from pipeline.stages import check_preset


@flow(name="end-to-end", flow_run_name="{run.preset}", persist_result=False)
def end_to_end(run: Run) -> list[str]:
    """The five stages in order; returns the references of their artifacts, the evaluation's last."""
    store = run.store()
    check_preset(run.resolved(), store)
    text = corpus(run)
    words = vocabulary(run, corpus=text)
    samples = dataset(run, corpus=text, vocabulary=words)
    encoder = pretraining(run, dataset=samples)
    scores = evaluation(run, pretraining=encoder, dataset=samples, corpus=text)
    references = [text, words, samples, encoder, scores]
    report_scores(store, store.resolve(scores))
    report_references(references)
    return references
