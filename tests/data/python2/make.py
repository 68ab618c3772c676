# -*- coding: utf-8 -*-
# ruff: noqa: C405, E402, F821, I001, UP009, UP012, UP025, UP031
# fmt: off
"""Writes the pickles of this folder; run by Python 2.7 in this folder: python2.7 make.py.

The classes come from `shop.py`, made beside it: an old-style class, a new-style one, and one with slots.
"""

import cPickle
import copy_reg
import datetime
import pickle
import sys

sys.dont_write_bytecode = True
import shop


def pickle_point(point):
    return shop.Point, (point.x, point.y)


copy_reg.pickle(shop.Point, pickle_point)

shared = [1, 2, 3]
cycle = ["round"]
cycle.append(cycle)

PLAIN = {
    "none": None,
    "bools": [True, False],
    "ints": [0, -1, 255, 65536, 2**31, -(2**31) - 1],
    "longs": [5, 10**30, -(10**30)],
    "floats": [0.5, -0.0, 1e300],
    "complex": 1 - 2j,
    "unicode": u"Пример 日本語 \n \\ end",
    "ascii": "plain text",
    "tuple": (1, (2, 3), ()),
    "set": set([1, 2, 3]),
    "frozenset": frozenset(["a", "b"]),
    "bytearray": bytearray(b"\x00\xff raw"),
    "shared": [shared, shared],
    "cycle": cycle,
}
FILES = {
    "plain": PLAIN,
    "latin1": {"name": u"Jürgen".encode("latin-1"), "raw": "\x00\x80\xff"},
    "utf8": [u"Пример".encode("utf-8"), u"日本".encode("utf-8")],
    "article": ("this is a string", 42, [1, 2, 3], None),
    "old_style": shop.Customer("Ada", [shared, shared]),
    "new_style": shop.Item("pen", u"Füller"),
    "slots": shop.Pair(1, [2]),
    "copy_reg": [shop.Point(1, 2), shop.Point(3, 4)],
    "builtins": [len, object, xrange, Exception, ValueError("no")],
    "date": datetime.datetime(2002, 11, 1, 12, 30),
}

for name, value in FILES.items():
    for protocol in (0, 1, 2):
        if name == "slots" and protocol < 2:
            continue
        for module, suffix in ((pickle, "py"), (cPickle, "c")):
            with open("%s-%d-%s.pickle" % (name, protocol, suffix), "wb") as file:
                module.dump(value, file, protocol)

with open("several.pickle", "wb") as file:
    cPickle.dump("apple", file, True)
    cPickle.dump({1: "One", 2: "Two", 3: "Three"}, file, 0)
    cPickle.dump(["fee", "fie", "foe", "fum"], file, 2)
