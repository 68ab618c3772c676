"""Work on whole stores: each is a plain function that takes a store, or objects of one."""

from perdure.objects.reports import Collected, Packed, Problem
from perdure.upkeep.checking import check
from perdure.upkeep.collecting import collect
from perdure.upkeep.exporting import export
from perdure.upkeep.forgetting import forget
from perdure.upkeep.large import drop_unnamed, unnamed_pieces

__all__ = ["Collected", "Packed", "Problem", "check", "collect", "drop_unnamed", "export", "forget", "unnamed_pieces"]
