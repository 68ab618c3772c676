"""Functions that pickles call with names as their arguments."""

from __future__ import annotations

from perdure.pickling.renames import Name
from perdure.pickling.slots import NO_NAME

NAMED = ("perdure", "_named")

# Functions of which an argument is a name: `module:Name` (at which places), or that of a module.
TAKES_NAME = {
    NAMED: (0,), ("perdure", "_shape"): (0, 3), ("perdure.pickling.classes", "find"): (0,),
    ("pkgutil", "resolve_name"): (0,),
}  # fmt: skip
WITH_MORE = {("perdure", "_shape")}  # whose other arguments say nothing that depends on the name
TAKES_MODULE = {
    ("importlib", "import_module"), ("builtins", "__import__"), ("cloudpickle.cloudpickle", "subimport"),
    ("cloudpickle", "subimport"),
}  # fmt: skip
GETATTR = ("builtins", "getattr")
MEMBER = ("perdure", "_member")  # of an enumeration: class, name, value


def name_in(text: str) -> Name:
    """The name in `module:Name`."""
    module, colon, qualname = text.partition(":")
    return (module, qualname) if colon else NO_NAME
