"""Being asked to stop is noted and passed on, and changes nothing else."""

import os
import signal
import threading

import pytest

from pipeline.errors import BertmillError, Preempted
from pipeline.pretraining.staying_alive.preemption import SIGNALS, Preemption, preempted


@pytest.fixture(autouse=True)
def handlers_as_before() -> object:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_rank_notes_that_it_was_asked_and_goes_on(number: signal.Signals) -> None:
    preemption = Preemption()
    preemption.listen()
    assert not preemption.asked
    os.kill(os.getpid(), number)
    assert preemption.asked


@pytest.mark.parametrize("number", SIGNALS)
def test_the_launcher_notes_it_and_has_its_own_handlers_back_afterwards(number: signal.Signals) -> None:
    before, preemption = signal.getsignal(number), Preemption()
    with preemption.listening():
        preemption.check("clinic")
        os.kill(os.getpid(), number)
        with pytest.raises(Preempted, match="The training of clinic was asked to stop while none of its ranks ran"):
            preemption.check("clinic")
    assert signal.getsignal(number) == before


def test_in_another_thread_signals_are_left_to_the_main_one() -> None:
    seen = []

    def within() -> None:
        with Preemption().listening():
            seen.append([signal.getsignal(each) for each in SIGNALS])

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    assert seen == [[signal.getsignal(each) for each in SIGNALS]]


def test_it_is_no_mistake_and_has_an_exit_status_of_its_own() -> None:
    error = preempted("clinic", 1_200, 40_000, is_stored=True)
    assert isinstance(error, Preempted)
    assert error.exit_status == os.EX_TEMPFAIL
    assert BertmillError("a mistake").exit_status == 2
    assert "after 1,200 of 40,000 steps, with a checkpoint." in str(error)
    assert "from the one before" in str(preempted("clinic", 1_200, 40_000, is_stored=False))
