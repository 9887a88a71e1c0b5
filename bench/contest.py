"""A contest: something measured of several contestants in turn, and what came out."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

OURS = "cutaway"


@dataclass(frozen=True)
class Figure:
    """One thing measured. `goals`: contestant → at most so many times its figure; `limit`: at most so much."""

    measure: str
    unit: str
    goals: dict[str, float] = field(default_factory=dict)
    limit: float | None = None


@dataclass(frozen=True)
class Contest:
    """`contestants`: name → what takes one sample of each of the figures, in the figure's unit."""

    figures: tuple[Figure, ...]
    contestants: dict[str, Callable[[], tuple[float, ...]]]
    rounds: int = 15


@dataclass(frozen=True)
class Spread:
    """The median of some samples, and their quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, samples: list[float]) -> Spread:
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper)


@dataclass
class Outcome:
    """The samples of one figure by contestant, round by round; `failed`: what each who gave up said."""

    figure: Figure
    samples: dict[str, list[float]]
    failed: dict[str, str]

    def spread(self, name: str) -> Spread:
        return Spread.of(self.samples[name])

    def ratio(self, peer: str) -> Spread | None:
        """Ours by the peer's, each pair of one round; nothing where either is missing or the peer's is nothing."""
        pairs = list(zip(self.samples.get(OURS, []), self.samples[peer], strict=False))
        if not pairs or not all(theirs for _, theirs in pairs):
            return None
        return Spread.of([ours / theirs for ours, theirs in pairs])


def hold(contest: Contest) -> list[Outcome]:
    """Lets every contestant take a sample in turn, round after round; the first is not counted where there are many.

    One that raises is out of the contest from then on.
    """
    taking_part, failed = dict(contest.contestants), dict[str, str]()
    rounds: dict[str, list[tuple[float, ...]]] = {name: [] for name in taking_part}
    warm_up = 1 if contest.rounds > 5 else 0
    for number in range(-warm_up, contest.rounds):
        for name, sample in list(taking_part.items()):
            try:
                sampled = sample()
            except Exception as problem:
                failed[name] = str(problem)
                print(f"  {name} gave up: {problem}", file=sys.stderr)
                del taking_part[name]
                continue
            if number >= 0:
                rounds[name].append(sampled)
    return [
        Outcome(figure, {name: [taken[at] for taken in samples] for name, samples in rounds.items() if samples}, failed)
        for at, figure in enumerate(contest.figures)
    ]
