"""Work on whole stores: each is a plain function that takes a store, or objects of one."""

from perdure.objects.reports import Collected, Packed, Planned, Problem, Upgraded
from perdure.upkeep.checking import check
from perdure.upkeep.collecting import collect
from perdure.upkeep.exporting import export
from perdure.upkeep.forgetting import forget
from perdure.upkeep.large import drop_unnamed, unnamed_pieces
from perdure.upkeep.planning import plan
from perdure.upkeep.renaming import RenameReport, rename_in_store
from perdure.upkeep.renaming_back import put_back
from perdure.upkeep.renaming_files import FileReport, rename_in_file
from perdure.upkeep.upgrading import upgrade

__all__ = [
    "Collected", "FileReport", "Packed", "Planned", "Problem", "RenameReport", "Upgraded", "check", "collect",
    "drop_unnamed", "export", "forget", "plan", "put_back", "rename_in_file", "rename_in_store", "unnamed_pieces",
    "upgrade",
]  # fmt: skip
