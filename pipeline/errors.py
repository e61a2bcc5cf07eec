"""Every error that bertmill raises on purpose.

    BertmillError                 one sentence: what was wrong, what was given, what to do
    ├── ConfigError               a preset, a --set, an environment variable, a DeepSpeed key
    ├── InputError                a source: missing, empty, truncated, not UTF-8
    ├── UnknownReference          a reference that names no artifact, or several
    ├── StoreError                the store can't be reached, read or written
    │   ├── CorruptArtifact       bytes that are not what the manifest says
    │   └── LeaseLost             another run has taken over the work
    ├── TrainingError             the ranks failed or hung, a loss was not finite, nothing was learned
    └── Preempted                 not a mistake: asked to stop, with a checkpoint; exit status 75

The command line prints the sentence and exits with the error's status: 2, where nothing else is said. Any other
exception is a fault of ours, and keeps its trace.
"""

import difflib
from collections.abc import Iterable


class BertmillError(Exception):
    """A mistake or a condition that its reader can mend; the message says how."""

    exit_status = 2
    """What the command line ends with."""


class ConfigError(BertmillError):
    """A preset, an override, an environment variable or a DeepSpeed key is wrong."""


class InputError(BertmillError):
    """A source can't be used as it is."""


class UnknownReference(BertmillError):
    """A reference names no artifact of the store, or more than one."""


class StoreError(BertmillError):
    """The store can't be reached, read, or written with the guarantees that artifacts need."""


class CorruptArtifact(StoreError):
    """Stored bytes differ from what their manifest says."""


class LeaseLost(StoreError):
    """Another run of the same recipe has taken over; this one stops."""


class TrainingError(BertmillError):
    """Pretraining stopped: a rank failed or hung, the loss was not finite, or it didn't fall."""


class Preempted(BertmillError):
    """A training was asked to stop and has; the same command goes on from its checkpoint."""

    exit_status = 75
    """EX_TEMPFAIL of sysexits.h: run it again."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest of `known`, or lists them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
