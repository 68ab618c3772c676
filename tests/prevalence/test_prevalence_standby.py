"""Standbys: they follow, they catch up, they are promoted; and the writer that was deposed takes nothing more."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tasks import Tasks

from perdure import prevalence
from perdure.cli import main
from perdure.errors import (
    CommandTimeout,
    ConnectionLost,
    CorruptJournal,
    InvalidArgument,
    KeyMissing,
    PrevalenceError,
    ReadOnly,
    ReplayDiffers,
    StandbyAway,
    StoreBusy,
    StoreClosed,
    UntrustedRecord,
    WriterDeposed,
)
from perdure.keys import KeyRing
from perdure.prevalence import command
from perdure.prevalence.commands import kind_of_method
from perdure.prevalence.lines import Line, prove_standby
from perdure.prevalence.promoting import promote_closed
from perdure.prevalence.receiving import Receiver
from perdure.prevalence.serving import ACK, HELLO, NUMBER
from perdure.prevalence.turns import Ticket
from perdure.records.seal import Key

KEY = Key(b"k" * 32)


@pytest.fixture
def followed(tmp_path):
    """Makes standbys of the system in a directory; all are closed at the end."""
    made = []

    def followed(of=None, *, place="standby", wait=True, **settings):
        source = tmp_path / "system" if of is None else of
        given = {"key": KEY, "code": "off", "freeze": False, "timeout": 20, **settings}
        standby = prevalence.standby(tmp_path / place, source, **given)
        made.append(standby)
        return standby

    yield followed
    for standby in made:
        standby.close()


@pytest.fixture
def served(opened):
    """Opens the system of a test, served to standbys."""

    def served(root=Tasks, **settings):
        return opened(root, **{"serve": "127.0.0.1:0", "patience": 5.0, **settings})

    return served


def is_soon(condition, seconds=20):
    """Whether it becomes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def same(one, other):
    return (one.open, one.done) == (other.open, other.done)


# -- following -------------------------------------------------------------------------------------------


def test_a_standby_has_what_the_writer_has(served, followed):
    system = served()
    system.root.add("before")
    standby = followed()
    assert standby.sequence in (0, 1)
    system.root.add("after", size=3)
    with pytest.raises(ValueError, match="needs a text"):
        system.root.add("")
    system.root.draw()
    with pytest.raises(KeyError):
        system.root.finish("nothing")  # it has changed the list of what is done by then
    system.root.finish("before")
    standby.wait_for(system.sequence)
    assert same(standby.root, system.root)
    assert standby.is_connected
    with standby.steady() as root:
        assert root.count() == 1
    with pytest.raises(ReadOnly, match="is a standby"):
        standby.root.add("not here")
    with pytest.raises(ReadOnly):
        standby.execute(Tasks.add, "nor here")


def test_one_on_another_machine_is_given_an_address(served, followed):
    system = served()
    standby = followed(of=system.address)
    system.root.add("one")
    standby.wait_for(1)
    assert "one" in standby.root.open


def test_who_comes_late_gets_a_snapshot_and_then_the_journal(served, followed, tmp_path):
    system = served(file_bytes=800, step=400, keep=1)
    for number in range(20):
        system.root.add(str(number))
    system.snapshot()
    for number in range(20, 40):
        system.root.add(str(number))
    standby = followed()
    standby.wait_for(system.sequence)
    assert same(standby.root, system.root)
    assert sorted(path.name for path in (tmp_path / "standby").glob("snapshot-*")) == ["snapshot-0000000000000000020"]
    for number in range(40, 60):
        system.root.add(str(number))
    standby.wait_for(60)
    assert same(standby.root, system.root)


def test_what_a_standby_has_is_what_the_writer_has_byte_by_byte(served, followed, tmp_path):
    system = served(file_bytes=800, step=400)
    standby = followed()
    for number in range(30):
        system.root.add(str(number))
    with pytest.raises(ValueError, match="needs a text"):
        system.root.add("")
    standby.wait_for(31)
    system.close()
    assert is_soon(lambda: not standby.is_connected)
    journals = sorted(path.name for path in (tmp_path / "system").glob("journal-*"))
    assert len(journals) > 2
    for name in journals:
        assert (tmp_path / "standby" / name).read_bytes() == (tmp_path / "system" / name).read_bytes()


def test_a_standby_that_was_away_goes_on_where_it_was(served, followed, tmp_path):
    system = served(file_bytes=800, step=400)
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    standby.close()
    with pytest.raises(StoreClosed):
        standby.root.add("more")
    for number in range(20):
        system.root.add(str(number))
    again = followed()
    assert "one" in again.root.open
    again.wait_for(21)
    assert same(again.root, system.root)
    assert not (tmp_path / "standby" / "replaced").exists()


def test_a_standby_that_was_away_too_long_begins_anew(served, followed, tmp_path):
    system = served(file_bytes=400, step=400, keep=1)
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    root = standby.root
    standby.close()
    for number in range(20):
        system.root.add(str(number))
    system.snapshot()
    system.root.add("more")
    again = followed()
    again.wait_for(22)
    assert same(again.root, system.root)
    assert len(root.open) == 1, "who was closed stays as it was"
    assert (tmp_path / "standby" / "replaced" / "journal-0000000000000000001").exists()


def test_the_root_stays_the_same_object_when_it_begins_anew(served, followed, opened):
    system = served()
    system.root.add("one")
    standby = followed()
    standby.wait_for(1)
    root = standby.root
    system.close()
    with opened(Tasks) as other:  # the same directory, and something that the standby does not get
        other.root.add("two")
    system = served(keep=1)
    system.snapshot()
    for number in range(5):
        system.root.add(str(number))
        system.snapshot()
    assert is_soon(lambda: standby.sequence == system.sequence)
    assert standby.root is root
    assert same(root, system.root)


def test_a_writer_that_is_opened_again_is_found_again(served, followed):
    system = served()
    standby = followed()
    system.root.add("one")
    address = system.address
    system.close()
    system = served(serve=address)
    system.root.add("two")
    standby.wait_for(2)
    assert same(standby.root, system.root)


def test_a_standby_makes_snapshots_of_its_own(served, followed, tmp_path):
    system = served()
    standby = followed(snapshot_commands=5)
    for number in range(12):
        system.root.add(str(number))
    standby.wait_for(12)
    assert is_soon(lambda: len(list((tmp_path / "standby").glob("snapshot-*[0-9]"))) > 1)
    standby.close()
    with prevalence.open(tmp_path / "standby", key=KEY, read_only=True) as found:
        assert same(found.root, system.root)


def test_what_raised_where_it_was_written_is_not_carried_out(served, followed):
    system = served(time_limit=0.2)
    standby = followed()
    with pytest.raises(CommandTimeout):
        system.root.spin(0.6)
    system.root.add("one")
    standby.wait_for(2)
    assert standby.root.done == []


def test_a_standby_that_starts_anew_learns_what_raised_last(served, followed, monkeypatch):
    """Its journal ends with a command that raised by the clock: alone it cannot know."""
    system = served(time_limit=0.3)
    standby = followed()
    heard = Receiver._take

    def deaf(self, line, kind, content):
        if kind != b"O":
            heard(self, line, kind, content)

    monkeypatch.setattr(Receiver, "_take", deaf)
    with pytest.raises(CommandTimeout):
        system.root.spin(0.6)
    assert is_soon(lambda: standby.copy.last == 1)
    standby.close()
    monkeypatch.setattr(Receiver, "_take", heard)
    again = followed()
    assert is_soon(lambda: again.root.done == [])
    system.root.add("one")
    again.wait_for(2)
    assert same(again.root, system.root)


class Differing:
    """A root whose commands depend on what they should not."""

    refuses = False

    def __init__(self):
        self.count = 0

    @command
    def step(self, name):
        if Differing.refuses and threading.current_thread().name == name:
            raise ValueError("not here")
        self.count += 1


def test_a_command_that_raises_on_the_standby_alone_is_told(served, followed, monkeypatch):
    system = served(Differing)
    standby = followed()
    monkeypatch.setattr(Differing, "refuses", True)
    system.root.step("perdure standby")
    with pytest.raises(ReplayDiffers, match="raises ValueError here: not here"):
        standby.wait_for(1)
    assert isinstance(standby.error, ReplayDiffers)
    with pytest.raises(ReplayDiffers):
        standby.promote()


def test_a_torn_end_of_a_standby_is_cut_off_and_sent_again(served, followed, tmp_path):
    system = served()
    standby = followed()
    system.root.add("one")
    system.root.add("two")
    standby.wait_for(2)
    standby.close()
    path = tmp_path / "standby" / "journal-0000000000000000001"
    path.write_bytes(path.read_bytes()[:-5])
    again = followed()
    again.wait_for(2)
    assert same(again.root, system.root)


# -- waiting for a standby -------------------------------------------------------------------------------


def test_a_synchronous_writer_takes_nothing_without_a_standby(served, followed, tmp_path):
    system = served(sync=True, patience=0.2)
    with pytest.raises(StandbyAway, match="nothing was journaled") as caught:
        system.root.add("one")
    assert caught.value.sequence == 0
    assert system.sequence == 0
    assert not list((tmp_path / "system").glob("journal-*"))
    standby = followed()
    system.root.add("two")
    with prevalence.open(tmp_path / "standby", key=KEY, read_only=True) as found:
        assert "two" in found.root.open, "it was durable there before it was answered"
    standby.close()
    assert is_soon(lambda: not system._serving._attached)
    time.sleep(0.3)
    with pytest.raises(StandbyAway):
        system.root.add("three")
    followed()
    assert is_soon(system._serving._is_ready)
    system.root.add("four")
    assert list(system.root.open) == ["two", "four"]


def test_a_command_whose_standby_went_away_meanwhile_is_not_acknowledged(served, followed, monkeypatch):
    system = served(sync=True, patience=0.3)
    standby = followed()
    system.root.add("one")
    acknowledged = Receiver._acknowledge
    monkeypatch.setattr(Receiver, "_acknowledge", lambda self, line: None)
    with pytest.raises(StandbyAway, match="durable and carried out here") as caught:
        system.root.add("two")
    assert caught.value.sequence == 2
    assert "two" in system.root.open
    with pytest.raises(StandbyAway, match="nothing was journaled"):
        system.root.add("three")
    monkeypatch.setattr(Receiver, "_acknowledge", acknowledged)
    assert is_soon(system._serving._is_ready)
    system.root.add("four")
    standby.wait_for(3)
    assert list(standby.root.open) == ["one", "two", "four"]


def test_a_writer_may_go_on_alone(served, followed):
    system = served(sync=True, away="alone", patience=0.3)
    system.root.add("one")
    assert any("answered without one" in line for line in system._serving.said)
    standby = followed()
    assert is_soon(system._serving._is_ready)
    system.root.add("two")
    assert standby.copy.last == 2, "it waits for one that is there"


def test_one_standby_of_several_is_enough(served, followed, monkeypatch):
    system = served(sync=True)
    standby, deaf = followed(), followed(place="deaf")
    acknowledged = Receiver._acknowledge

    def acknowledge(self, line):
        if self._standby is not deaf:
            acknowledged(self, line)

    monkeypatch.setattr(Receiver, "_acknowledge", acknowledge)
    system.root.add("one")
    for each in (standby, deaf):
        each.wait_for(1)
        assert "one" in each.root.open


def test_commands_that_share_a_sync_share_the_wait(served, followed):
    system = served(sync=True)
    standby = followed()
    kind = kind_of_method(Tasks.add)
    tickets = []
    for text in ("one", "", "three"):
        stored = kind.store((text,), {})
        tickets.append(Ticket(kind, stored, kind.copied(stored)))
    system._process(tickets)
    assert [type(ticket.error) for ticket in tickets] == [type(None), ValueError, type(None)]
    standby.wait_for(3)
    assert list(standby.root.open) == ["one", "three"]


# -- promotion -------------------------------------------------------------------------------------------


def test_a_promoted_standby_writes_and_the_writer_does_not(served, followed, opened, tmp_path):
    system = served()
    standby = followed()
    for number in range(50):
        system.root.add(str(number))
    with pytest.raises(ValueError, match="needs a text"):
        system.root.add("")
    root = standby.root
    with standby.promote() as new:
        assert new.root is root
        assert same(new.root, system.root), "what the old one still had was sent before it stopped"
        assert new.said == []
        with pytest.raises(WriterDeposed, match="was promoted") as caught:
            system.root.add("too late")
        assert caught.value.epoch == 1
        new.root.add("in time")
        with pytest.raises(StoreClosed):
            standby.promote()
    system.close()
    with pytest.raises(WriterDeposed):
        opened(Tasks)
    with opened(Tasks, place="standby") as again:
        assert again.sequence == 52
        again.root.add("later")
        assert again._journal.head.epoch == 1


def test_a_deposed_writer_becomes_a_standby_of_the_new_one(served, followed, tmp_path):
    system = served()
    standby = followed()
    system.root.add("one")
    with standby.promote(serve="127.0.0.1:0") as new:
        with pytest.raises(WriterDeposed):
            system.root.add("lost")
        system.close()
        back = followed(of=tmp_path / "standby", place="system")
        new.root.add("two")
        back.wait_for(new.sequence)
        assert list(back.root.open) == ["one", "two"]
        with back.promote() as third:
            third.root.add("three")
            with pytest.raises(WriterDeposed):
                new.root.add("four")


def test_a_dead_writer_whose_directory_is_here_is_marked(served, followed, opened):
    system = served()
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    system.close()
    with standby.promote() as new:
        assert new.said == []
    with pytest.raises(WriterDeposed):
        opened(Tasks)


def test_a_writer_that_could_not_be_told_is_told_later(served, followed, monkeypatch):
    monkeypatch.setattr("perdure.prevalence.promoting.PAUSE", 0.05)
    system = served()
    address = system.address
    standby = followed(of=address)
    system.root.add("one")
    standby.wait_for(1)
    system.close()
    assert is_soon(lambda: not standby.is_connected)
    with standby.promote(patience=0.1) as new:
        assert "could not be told" in new.said[0]
        system = served(serve=address)

        def is_deposed():
            try:
                system.root.add("more")
            except WriterDeposed:
                return True
            return False

        assert is_soon(is_deposed)


def test_of_two_standbys_one_is_promoted(served, followed, tmp_path, opened):
    system = served()
    one, other = followed(), followed(place="other")
    system.root.add("a")
    one.wait_for(1)
    other.wait_for(1)
    new = one.promote()
    new.root.add("b")
    for _ in range(2):
        with pytest.raises(PrevalenceError, match="is not promoted: another standby was promoted before"):
            other.promote(patience=1)
    assert list(other.root.open) == ["a"]
    system.close()  # its directory knows as well
    with pytest.raises(PrevalenceError, match=f"promoted before .*:{new.directory}"):
        other.promote(patience=1)
    other.close()
    with pytest.raises(PrevalenceError, match="is not promoted"):
        promote_closed(str(tmp_path / "other"), KEY)
    new.close()
    shutil.rmtree(tmp_path / "system")  # nobody is left who knows of the other one
    assert promote_closed(str(tmp_path / "other"), KEY) == (1, False)


def test_a_standby_of_a_later_epoch_deposes(served, followed, monkeypatch):
    system = served()
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    standby.close()
    with socket.create_connection(system.address.split(":")) as connection:
        line, _ = prove_standby(connection, lambda _: KEY)
        line.say(HELLO, b'{"system": "", "epoch": 3, "position": null, "last": 0}')
        kind, content = line.hear()
    assert kind == b"R"
    assert b"epoch 3" in content
    with pytest.raises(WriterDeposed):
        system.root.add("two")


def test_a_standby_that_nobody_has_open_is_promoted(served, followed, opened, tmp_path):
    system = served()
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    with pytest.raises(StoreBusy):
        promote_closed(str(tmp_path / "standby"), KEY)
    standby.close()
    with pytest.raises(PrevalenceError, match="is a standby of"):
        opened(Tasks, place="standby")
    opened(Tasks, place="other").close()
    with pytest.raises(PrevalenceError, match="is no standby"):
        promote_closed(str(tmp_path / "other"), KEY)
    assert promote_closed(str(tmp_path / "standby"), KEY) == (1, True)
    with pytest.raises(WriterDeposed):
        system.root.add("two")
    with opened(Tasks, place="standby") as new:
        assert list(new.root.open) == ["one"]


def test_a_command_that_waits_while_its_writer_is_deposed_is_not_answered(served, followed, monkeypatch):
    system = served(sync=True, patience=20.0)
    standby = followed()
    system.root.add("one")
    monkeypatch.setattr(Receiver, "_acknowledge", lambda self, line: None)
    outcome = []

    def call():
        try:
            outcome.append(system.root.add("two"))
        except PrevalenceError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert is_soon(lambda: standby.copy.last == 2)
    standby.close()
    assert promote_closed(standby.directory, KEY)[0] == 1
    thread.join(20)
    assert isinstance(outcome[0], WriterDeposed)


def test_a_standby_that_is_half_filled_is_not_promoted(served, followed, tmp_path, monkeypatch):
    served()
    standby = followed()
    standby.close()
    standby._folder.note_standing(standby._standing._replace(role="filling"))
    with pytest.raises(PrevalenceError, match="is not whole"):
        promote_closed(str(tmp_path / "standby"), KEY)
    again = followed()
    assert is_soon(lambda: again._folder.standing().role == "standby")


def test_a_file_of_a_deposed_writer_is_met(served, followed, tmp_path, opened):
    system = served()
    standby = followed()
    system.root.add("one")
    with standby.promote() as new:
        new.root.add("two")
    system._turns.broken, system._serving._deposed = None, 0  # as one that was never told
    system.root.add("not two")
    system._journal.rotate()
    system.root.add("not three")
    system.close()
    later = tmp_path / "system" / "journal-0000000000000000003"
    (tmp_path / "standby" / later.name).write_bytes(later.read_bytes())
    with pytest.raises(CorruptJournal, match="by a writer that had been deposed"):
        opened(Tasks, place="standby")


# -- what is not as it should be -------------------------------------------------------------------------


def greeted(system):
    connection = socket.create_connection(system.address.split(":"), 10)
    return connection, connection.recv(1000)


def rest_of(connection):
    """All that comes until the other side closes."""
    parts = []
    with connection, contextlib.suppress(OSError):
        while part := connection.recv(1000):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0" * 52, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" * 3, b"\xb7PL\x01" + b"k" * 48, b"\xff" * 5000],
)
def test_garbage_gets_nothing(served, followed, sent):
    system = served()
    system.root.add("a secret")
    connection, greeting = greeted(system)
    assert len(greeting) == 40
    with contextlib.suppress(OSError):  # it may have been shown the door already
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
    assert rest_of(connection) == b""
    followed().wait_for(1)


def test_who_says_little_at_a_time_is_not_waited_for_longer(served, monkeypatch):
    """Else a few such connections would keep standbys away."""
    monkeypatch.setattr("perdure.prevalence.lines.PROOF_TIME", 0.3)
    connection, _ = greeted(served())
    began = time.monotonic()
    with connection, contextlib.suppress(OSError):
        while time.monotonic() - began < 20:
            connection.sendall(b"k")
            time.sleep(0.05)
    assert time.monotonic() - began < 10


def test_a_standby_says_nothing_long(served):
    """What is said is not proved before its end: the writer does not gather a GiB of it."""
    connection = socket.create_connection(served().address.split(":"), 10)
    with connection:
        line, _ = prove_standby(connection, lambda _: KEY)
        connection.sendall((1 << 20).to_bytes(4, "little"))
        with pytest.raises(ConnectionLost):
            line.hear()


def test_a_wrong_key_gets_nothing(served, followed):
    system = served()
    system.root.add("a secret")
    with pytest.raises(KeyMissing):
        followed(key=Key(b"w" * 32), timeout=5)
    connection = socket.create_connection(system.address.split(":"), 10)
    forged = Key(b"w" * 32)
    forged.id = KEY.id
    with connection, pytest.raises(ConnectionLost):
        prove_standby(connection, lambda _: forged)


def test_what_was_heard_once_is_no_use_again(served, monkeypatch):
    system = served()
    said = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "perdure.prevalence.lines._send", lambda connection, data: (said.append(data), connection.sendall(data))
        )
        connection = socket.create_connection(system.address.split(":"), 10)
        with connection:
            prove_standby(connection, lambda _: KEY)
    answer = next(data for data in said if len(data) == 52)
    connection, _ = greeted(system)
    connection.sendall(answer)
    assert rest_of(connection) == b""


def test_a_message_that_was_changed_ends_the_line(served):
    system = served()
    connection = socket.create_connection(system.address.split(":"), 10)
    with connection:
        line, _ = prove_standby(connection, lambda _: KEY)
        line._said = 1  # as if one had been left out
        line.say(HELLO, b'{"system": "", "epoch": 0, "position": null, "last": 0}')
        with pytest.raises(ConnectionLost):
            line.hear()


def test_a_writer_that_is_none_is_told(followed, tmp_path):
    """What answers at that address says something else, or does not know the key."""

    def answer(server, data):
        with server:
            connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(data)
            connection.recv(1000)
            connection.sendall(b"\x80\x05x" * 1000)

    for data in (b"SSH-2.0-something else" * 3, b"\xb7PL\x01" + KEY.id.to_bytes(4, "little") + b"n" * 32):
        server = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=(server, data))
        thread.start()
        with pytest.raises(StandbyAway, match=r"is no prevalent system|does not know the system's key|Nothing answers"):
            followed(of=address, timeout=0.5)
        thread.join()


def test_what_does_not_go_on_is_not_written(served, followed, tmp_path):
    system = served()
    standby = followed()
    system.root.add("one")
    standby.wait_for(1)
    path = tmp_path / "standby" / "journal-0000000000000000001"
    before = path.read_bytes()
    end = standby.copy.position()["end"]
    with pytest.raises(UntrustedRecord):
        standby.copy.add(1, end, b"x" * 200)
    with pytest.raises(CorruptJournal):
        standby.copy.add(1, end + 1, b"x" * 200)
    with pytest.raises(CorruptJournal):
        standby.copy.add(9, 0, before)
    assert path.read_bytes() == before


def test_a_peer_that_lies_about_what_it_has_lets_nobody_wait(served):
    system = served(sync=True, patience=0.5)
    with socket.create_connection(system.address.split(":")) as connection:
        line, _ = prove_standby(connection, lambda _: KEY)
        assert isinstance(line, Line)
        line.say(HELLO, b'{"system": "other", "epoch": 0, "position": null, "last": 0}')
        kind, content = line.hear()
        assert kind == b"R"
        assert b"another system" in content
        with contextlib.suppress(ConnectionLost):
            line.say(ACK, NUMBER.pack(99))
        with pytest.raises(ConnectionLost):
            line.hear()
    with pytest.raises(StandbyAway):
        system.root.add("one")


def test_settings_that_make_no_sense(opened, followed, tmp_path):
    with pytest.raises(InvalidArgument, match="waits for a standby"):
        opened(Tasks, sync=True)
    with pytest.raises(InvalidArgument, match="is no address"):
        opened(Tasks, serve="here")
    with pytest.raises(InvalidArgument, match="away is"):
        opened(Tasks, serve="127.0.0.1:0", away="perhaps")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(PrevalenceError, match="cannot be served"):
            opened(Tasks, serve=f"127.0.0.1:{taken}")
    system = opened(Tasks)
    with pytest.raises(StandbyAway, match="is not served now"):
        followed(timeout=0.3)
    with pytest.raises(StoreBusy):
        followed(of=tmp_path / "elsewhere", place="system")
    assert system.address == ""


def test_a_standby_of_another_system_is_refused(served, followed, opened, tmp_path):
    served()
    opened(Tasks, place="standby").close()
    standby = followed()
    assert is_soon(lambda: standby.error is not None)
    assert "is another system" in str(standby.error)


def test_a_writers_own_directory_is_not_made_a_standbys(served, followed, opened, tmp_path):
    """Two copies of one system, each a writer's; or the arguments in the wrong order."""
    system = served()
    system.root.add("one")
    system.close()
    shutil.copytree(tmp_path / "system", tmp_path / "copy")
    with opened(Tasks, place="copy") as copy:
        copy.root.add("only here")
    served()
    standby = followed(place="copy")
    assert is_soon(lambda: standby.error is not None)
    assert "is a writer's own" in str(standby.error)
    with pytest.raises(PrevalenceError, match="is a writer's own"):
        standby.promote()
    standby.close()
    with opened(Tasks, place="copy") as copy:
        assert list(copy.root.open) == ["one", "only here"]


def test_a_proved_peer_that_says_nonsense_ends_its_line_only(served):
    system = served()
    for nonsense in (b"[]", b"{}", b"not json", b'{"system": "", "epoch": null, "position": 7, "last": 0}'):
        with socket.create_connection(system.address.split(":")) as connection:
            line, _ = prove_standby(connection, lambda _: KEY)
            line.say(HELLO, nonsense)
            with pytest.raises(ConnectionLost):
                line.hear()
    with socket.create_connection(system.address.split(":")) as connection:
        line, _ = prove_standby(connection, lambda _: KEY)
        line.say(b"D", b"short")
        with pytest.raises(ConnectionLost):
            line.hear()
    system.root.add("one")


# -- on the command line ---------------------------------------------------------------------------------


def test_a_standby_on_the_command_line(served, tmp_path, own_environment, opened, capsys):
    KeyRing().add(KEY)
    system = served()
    system.root.add("one")
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure", "prevalence", "standby", str(tmp_path / "copy"), "--of", system.address],
        cwd=here,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Following" in process.stdout.readline()
        with pytest.raises(StoreBusy):
            promote_closed(str(tmp_path / "copy"), KEY)
        assert is_soon(lambda: system._serving._attached and system._serving._is_ready())
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert "Ended after command 1." in rest
    assert main(["prevalence", "verify", str(tmp_path / "copy")]) == 0
    assert main(["prevalence", "promote", str(tmp_path / "copy")]) == 0
    assert "is the writer's now (epoch 1)" in capsys.readouterr().out
    with pytest.raises(WriterDeposed):
        system.root.add("two")
    with opened(Tasks, place="copy") as new:
        assert "one" in new.root.open
    assert main(["prevalence", "promote", str(tmp_path / "copy")]) == 3
    assert "is no standby" in capsys.readouterr().err
    assert main(["prevalence", "standby", str(tmp_path / "more")]) == 3
    assert "A standby of what?" in capsys.readouterr().err
