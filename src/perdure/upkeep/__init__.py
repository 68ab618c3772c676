"""Work on whole stores: each is a plain function that takes a store, or objects of one."""

from perdure.upkeep.checking import Problem, check
from perdure.upkeep.exporting import export
from perdure.upkeep.large import drop_unnamed, unnamed_pieces

__all__ = ["Problem", "check", "drop_unnamed", "export", "unnamed_pieces"]
