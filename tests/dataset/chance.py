"""What counts as chance: bounds that a right generator passes and a wrong one doesn't. All draws are seeded."""

from collections.abc import Sequence

SIGMAS = 4.5


def fits_share(hits: int, total: int, share: float) -> bool:
    """Whether `hits` of `total` may be draws of probability `share`: within 4.5 standard deviations."""
    return abs(hits - total * share) <= SIGMAS * (total * share * (1 - share)) ** 0.5


def fits_even(counts: Sequence[int]) -> bool:
    """Whether the counts may be even draws: chi-square within 4.5 standard deviations of its mean."""
    expected = sum(counts) / len(counts)
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    freedom = len(counts) - 1
    return abs(chi_square - freedom) <= SIGMAS * (2 * freedom) ** 0.5
