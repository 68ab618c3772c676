"""What perdure's own tests stand on, shipped for those who write a backend or want to try their own code as hard.

- Needs pytest and hypothesis, but for `check_samples`; nothing else of perdure imports from here.
"""

from perdure.testing.samples import check_samples

__all__ = ["check_samples"]
