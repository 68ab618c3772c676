"""Work on whole stores: each is a plain function that takes a store."""

from perdure.upkeep.checking import Problem, check

__all__ = ["Problem", "check"]
