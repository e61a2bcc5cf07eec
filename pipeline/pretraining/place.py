"""Which rank this is, among how many."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One rank of a world under a ZeRO stage."""

    rank: int
    world: int
    zero_stage: int
