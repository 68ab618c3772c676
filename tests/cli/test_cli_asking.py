"""`ls --where`, `export`, `reindex`: what headers tell, asked for on the command line."""

from __future__ import annotations

import json

import pytest

import perdure

TICKETS = """\
from perdure import Persistable

class Ticket(Persistable):
    {indexed}
    def __init__(self, state, size):
        self.state, self.size = state, size
"""


@pytest.fixture
def tickets(folder, monkeypatch):
    """A store with tickets, whose class gets its index by a call of the fixture."""
    monkeypatch.syspath_prepend(str(folder))

    def write(indexed):
        (folder / "ticketing.py").write_text(TICKETS.format(indexed=indexed), encoding="utf-8")

    write('__indexed__ = ("state", "size")')
    import ticketing

    with perdure.make_store("sqlite:///small.db", code="off") as store:
        states = ["new", "failed", "5", "failed", "x" * 999]
        store.save_many([ticketing.Ticket(state, size) for size, state in enumerate(states, 4)])
        store.save({"plain": "value"})
    return write


def ids(told):
    return [row["id"] for row in json.loads(told[1])]


def test_ls_chooses_orders_and_cuts(say, tickets):
    assert ids(say("ls", "--class", "Ticket", "--where", "state=failed", "--json")) == ["Ticket.2", "Ticket.4"]
    assert ids(say("ls", "--where", "state=failed", "--order", "-size", "--limit", "1", "--json")) == ["Ticket.4"]
    assert ids(say("ls", "--where", "size__gt=5", "--where", "size__le=7", "--json")) == ["Ticket.3", "Ticket.4"]
    assert ids(say("ls", "--where", "state=5", "--json")) == ["Ticket.3"]  # a text that looks like a number
    assert ids(say("ls", "--where", "size=5", "--json")) == ["Ticket.2"]
    assert ids(say("ls", "--where", "state__in=new,5", "--json")) == ["Ticket.1", "Ticket.3"]
    assert ids(say("ls", "--class", "Ticket", "--where", "state__startswith=xx", "--json")) == ["Ticket.5"]
    assert ids(say("ls", "--class", "Ticket", "--where", "state=none", "--json")) == []
    assert ids(say("ls", "--limit", "2", "--json")) == ["Ticket.1", "Ticket.2"]
    status, out, err = say("ls", "--class", "Ticket", "--where", "state=gone")
    assert (status, out) == (0, "")
    assert "There is no such object of class Ticket" in err


def test_runs_and_jobs_are_chosen_by_their_headers(say):
    assert say("run", "small.py", "total", "1", "3", "--executor", "inline")[0] == 1
    assert len(ids(say("ls", "--all", "--class", "Job", "--where", "state=failed", "--json"))) == 1
    assert len(ids(say("ls", "--all", "--class", "Attempt", "--where", "error__startswith=is no good", "--json"))) == 1


@pytest.mark.parametrize("words", [("--where", "state"), ("--where", "=x"), ("--limit", "-1"), ("--limit", "x")])
def test_wrong_use_is_one_sentence(say, tickets, words):
    status, out, err = say("ls", *words)
    assert (status, out) == (2, "")
    assert "perdure ls: " in err


def test_export_writes_csv(say, tickets):
    assert say("export", "Ticket", "--where", "size__lt=7", "--order", "-size") == (
        0, "id,state,size\nTicket.3,5,6\nTicket.2,failed,5\nTicket.1,new,4\n", "",
    )  # fmt: skip
    assert say("export", "ticketing:Ticket", "--fields", "size", "--limit", "1")[1] == "id,size\nTicket.1,4\n"
    status, out, err = say("export", "Ticket", "--fields", "size,owner")
    assert (status, out) == (2, "")
    assert "tells 'owner' in its header. There are: state, size." in err


def test_export_of_objects(tmp_path, tickets):
    from perdure.upkeep import export

    with perdure.make_store("sqlite:///small.db") as store, open(tmp_path / "out.csv", "w", newline="") as file:
        import ticketing

        assert export(store.find(ticketing.Ticket, limit=2), ["persistent_id", "size", "owner.name"], file) == 2
    assert (tmp_path / "out.csv").read_bytes() == b"persistent_id,size,owner.name\r\nTicket.1,4,\r\nTicket.2,5,\r\n"


def test_reindex_brings_a_full_store_to_its_index(folder, command, tickets):
    tickets("")  # an older release of the program
    older = "import perdure, ticketing; perdure.make_store('sqlite:///small.db').save(ticketing.Ticket('old', 1))"
    (folder / "older.py").write_text(older, encoding="utf-8")
    tickets('__indexed__ = ("state", "size", "note")')
    done = command("reindex", "ticketing:Ticket")
    assert (done.returncode, done.stdout, done.stderr) == (0, "5 objects written anew.\n", "")
    assert command("reindex", "ticketing:Ticket").stdout == "0 objects written anew.\n"
    assert "note" in command("ls", "--class", "Ticket", "--json").stdout


def test_reindex_of_what_is_no_class(say, tickets):
    assert say("reindex", "Ticket")[0] == 2
    assert say("reindex", "nowhere:Ticket")[0] == 2
    assert say("reindex", "ticketing:Nobody")[0] == 3
