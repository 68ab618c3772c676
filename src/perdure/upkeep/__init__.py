"""Work on whole stores: each is a plain function that takes a store."""

from perdure.upkeep.checking import Problem, check
from perdure.upkeep.large import drop_unnamed, unnamed_pieces

__all__ = ["Problem", "check", "drop_unnamed", "unnamed_pieces"]
