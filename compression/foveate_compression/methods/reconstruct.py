"""Learnt rounding, block by block: AdaRound (arXiv 2004.10568) as BRECQ and QDrop do it; also tunes codewords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from foveate_compression.methods.method import Progress
from foveate_compression.reconstruction import Schedule, reconstructed
from foveate_compression.work import Work


@dataclass(frozen=True, slots=True)
class Reconstruct:
    """What earlier steps left to learn: rounding, scales, codewords, biases. `drop`: QDrop's share; 0 is BRECQ."""

    iterations: Annotated[int, Gt(0)] = 300
    batch: Annotated[int, Gt(0)] = 32
    drop: Annotated[float, Ge(0), Le(1)] = 0.5
    seed: Annotated[int, Ge(0)] = 0

    def apply(self, work: Work, progress: Progress) -> None:
        """No block's error on the samples rises."""
        schedule = Schedule(iterations=self.iterations, batch=self.batch, drop=self.drop, seed=self.seed)
        work.gains += reconstructed(work, schedule, progress)
