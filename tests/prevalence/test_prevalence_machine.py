"""A state machine of commands, failures, snapshots, power cuts, kills and reopenings, against a plain object."""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tasks import Rename, Tasks

from perdure import prevalence
from perdure.files import Files
from perdure.records.seal import Key
from perdure.testing.crashes import SimulatedDisk

sys.path.insert(0, str(Path(__file__).parent))

KEY = Key(b"k" * 32)
TEXTS = st.sampled_from(["a", "b", "c", "d", "ü"])


class Machine(RuleBasedStateMachine):
    """The model is a `Tasks` of its own, which no system knows; a command that raises there must raise here."""

    @initialize(taster=st.booleans(), durability=st.sampled_from(["always", "none"]), compress=st.booleans())
    def begin(self, taster, durability, compress):
        self.disk = SimulatedDisk()
        self.settings = {"food_taster": taster, "durability": durability, "compress": compress}
        self.models = [([], [])]  # texts that are open, done, after each command that was carried out
        self.safe = 0  # so many of them are durable
        self.open()
        self.safe = 1

    def open(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            self.system = prevalence.open(
                "/data/system", Tasks, key=KEY, files=Files(self.disk), how="here", code="off", freeze=False,
                step=512, file_bytes=1500, **self.settings,
            )  # fmt: skip

    def found(self):
        root = self.system.root
        return list(root.open), list(root.done)

    def do(self, call, model):
        """Carry out the same on both sides."""
        names, done = (list(part) for part in self.models[-1])
        before = self.system.sequence
        try:
            model(names, done)
        except (KeyError, ValueError) as expected:
            try:
                call()
            except type(expected):
                names, done = self.models[-1]
            else:
                raise AssertionError("it did not raise") from expected
        else:
            call()
        assert self.system.sequence in (before, before + 1)
        if self.system.sequence > before:
            self.models.append((names, done))
        if self.settings["durability"] == "always":
            self.safe = len(self.models)

    @rule(text=TEXTS)
    def add(self, text):
        self.do(lambda: self.system.root.add(text), lambda names, done: text in names or names.append(text))

    @rule(text=TEXTS)
    def finish(self, text):
        def model(names, done):
            if text not in names:
                raise KeyError(text)
            done.append(text)
            names.remove(text)

        self.do(lambda: self.system.root.finish(text), model)

    @rule(texts=st.lists(st.sampled_from(["a", "b", "e", ""]), max_size=3))
    def add_all(self, texts):
        def model(names, done):
            for text in texts:
                if not text:
                    raise ValueError
                if text not in names:
                    names.append(text)

        self.do(lambda: self.system.root.add_all(*texts), model)

    @rule(old=TEXTS, new=TEXTS)
    def rename(self, old, new):
        def model(names, done):
            if old not in names:
                raise KeyError(old)
            names.remove(old)
            if new not in names:
                names.append(new)

        self.do(lambda: self.system.execute(Rename(old, new)), model)

    @rule()
    def snapshot(self):
        self.system.snapshot()
        self.safe = len(self.models)

    @rule()
    def sync(self):
        self.system.sync()
        self.safe = len(self.models)

    @rule()
    def reopen(self):
        self.system.close()
        self.safe = len(self.models)
        self.open()
        assert self.system.sequence == len(self.models) - 1

    @rule()
    def kill(self):
        self.disk = SimulatedDisk(self.disk.image())
        self.open()
        assert self.system.sequence == len(self.models) - 1
        self.safe = len(self.models)

    @rule(seed=st.integers(0, 1000))
    def cut_the_power(self, seed):
        images = list(self.disk.images(random.Random(seed), 8))
        self.disk = SimulatedDisk(images[seed % len(images)])
        self.open()
        found = self.system.sequence + 1
        assert self.safe <= found <= len(self.models)
        del self.models[found:]
        self.safe = found

    @rule(data=st.data())
    def look_back(self, data):
        oldest = self.system._folder.numbers("snapshot")[0]
        until = data.draw(st.integers(oldest, self.system.sequence))
        with prevalence.open("/data/system", key=KEY, files=Files(self.disk), until=until) as then:
            assert (list(then.root.open), list(then.root.done)) == self.models[until]

    @invariant()
    def is_what_it_should_be(self):
        if hasattr(self, "system"):
            assert self.found() == tuple(self.models[-1])

    def teardown(self):
        if hasattr(self, "system"):
            self.system.close()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
