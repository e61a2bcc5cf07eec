"""jieba's dictionary and hidden Markov model as arrays, as compiled code looks into them.

Words are a tree of code points whose edges are one hash table, 12 bytes each; the figures are those of the installed
package, of which `math.log` takes the logarithms, as jieba does. Costs a quarter of a second and 18 MB a process, and
150 MB more while they are made.
"""

from math import log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.dataset.text.jieba_dictionary import Dictionary, import_jieba

Points = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NEVER = -3.14e100
"""jieba's logarithm of nothing."""
HAN_FIRST, HAN_LAST = 0x4E00, 0x9FD5
"""What jieba takes for Han."""
STATES = "BEMS"
"""The model's states, a word's begin, end and middle and a word of one character: numbered in this order."""


class Model(NamedTuple):
    """What the kernel knows. Legend: K slots, a power of two; N nodes; H code points of Han.

    Words are a tree: from a node and a code point to a node. An edge's key is node << 21 | point, an empty slot's -1.
    """

    keys: Keys
    """[K]"""
    children: Points
    """[K]"""
    roots: Points
    """[2^16], the node of a word's first code point; 0 for none."""
    weights: Floats
    """[N], log of a word's probability; 1 where no word ends."""
    split: Flags
    """[N], the word is one that the hidden Markov model may not make."""
    unknown: float
    """The weight of a character that is no word."""
    start: Floats
    """[4]"""
    steps: Floats
    """[4, 4], from a state to a state."""
    emits: Floats
    """[H, 4]"""


def make_model(words: Dictionary) -> Model:
    """The arrays for that dictionary."""
    joined = np.frombuffer("".join(words.counts).encode("utf-32-le", "surrogatepass"), np.int32)
    lengths = np.fromiter(map(len, words.counts), np.int64, len(words.counts))
    total = log(words.total)
    weight_of = {count: log(count) - total if count else 1.0 for count in {*words.counts.values()}}
    weights = np.fromiter(map(weight_of.__getitem__, words.counts.values()), np.float64, len(lengths))
    split = np.fromiter(map(words.split.__contains__, words.counts), np.bool_, len(lengths))
    slots = 1 << len(joined).bit_length()  # half of them are used, as many a word begins as another does
    tree = (np.full(slots, -1, np.int64), np.zeros(slots, np.int32), np.zeros(1 << 16, np.int32))
    nodes = _grow(joined, lengths, *tree)
    node_weights, node_split = np.ones(nodes.max() + 1), np.zeros(nodes.max() + 1, np.bool_)
    node_weights[nodes], node_split[nodes] = weights, split
    return Model(*tree, node_weights, node_split, -total, *_chances())


def _chances() -> tuple[Floats, Floats, Floats]:
    """The hidden Markov model's start, steps and emits."""
    model = import_jieba().finalseg
    start = np.array([model.start_P[state] for state in STATES])
    steps = np.array([[model.trans_P[old].get(new, NEVER) for new in STATES] for old in STATES])
    emits = np.full((HAN_LAST - HAN_FIRST + 1, 4), NEVER)
    for column, state in enumerate(STATES):
        for character, chance in model.emit_P[state].items():
            if HAN_FIRST <= ord(character) <= HAN_LAST:
                emits[ord(character) - HAN_FIRST, column] = chance
    return start, steps, emits


@njit(cache=True)
def _slot_of(key: int, keys: Keys) -> Any:  # int
    """Where the key is, or would be."""
    mask = len(keys) - 1
    slot = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while keys[slot] != -1 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _grow(points: Points, lengths: Lengths, keys: Keys, children: Points, roots: Points) -> Points:
    """Put words into the tree; returns each one's node, from 1 on."""
    nodes = np.zeros(len(lengths), np.int32)
    made, begin = 0, 0
    for word in range(len(lengths)):
        node = 0
        for at in range(begin, begin + lengths[word]):
            if at == begin and points[at] < len(roots):
                if roots[points[at]] == 0:
                    made += 1
                    roots[points[at]] = made
                node = roots[points[at]]
                continue
            key = np.int64(node) << 21 | points[at]
            slot = _slot_of(key, keys)
            if keys[slot] == -1:
                made += 1
                keys[slot], children[slot] = key, made
            node = children[slot]
        nodes[word] = node
        begin += lengths[word]
    return nodes


@njit(cache=True)
def child_of(model: Model, node: int, point: int) -> Any:  # int
    """The node that follows, 0 for none."""
    slot = _slot_of(np.int64(node) << 21 | point, model.keys)
    return np.int64(model.children[slot])


@njit(cache=True)
def node_of(model: Model, points: Points, first: int, last: int) -> Any:  # int
    """The node of a string of two characters and more, 0 for none."""
    node = np.int64(model.roots[points[first]])
    at = first + 1
    while node and at < last:
        node = child_of(model, node, points[at])
        at += 1
    return node
