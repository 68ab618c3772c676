# ruff: noqa: UP004
# fmt: off
"""Classes as a program for Python 2 had them; the tests import this very file under Python 3."""


class Customer:
    def __init__(self, name, orders):
        self.name = name
        self.orders = orders


class Item(object):
    def __init__(self, name, label):
        self.name = name
        self.label = label


class Pair(object):
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left = left
        self.right = right


class Point(object):
    def __init__(self, x, y):
        self.x = x
        self.y = y
