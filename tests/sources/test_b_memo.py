"""Row B1 of the memo on pickles and job flows: users and items share objects, and loading gives the sharing back."""

from __future__ import annotations

import perdure
from perdure import Persistable


class Item(Persistable):
    def __init__(self, name):
        self.name = name


class User(Persistable):
    def __init__(self, name):
        self.name, self.items = name, []


def users_with_one_pen():
    pen = Item("pen")
    a, b = User("A"), User("B")
    a.items.append(pen)
    b.items.append(pen)
    return [a, b]


def test_b1_shared_objects_come_back_shared(tmp_path):
    url = f"sqlite:////{tmp_path.as_posix().lstrip('/')}/shop.db"
    with perdure.make_store(url) as store, store.transaction(note="first customers"):
        store.roots["users"] = users_with_one_pen()
    with perdure.make_store(url) as store:
        again = store.roots["users"]
        assert again[0].items[0] is again[1].items[0]
        assert again[0].items[0].name == "pen"
        assert [user.name for user in again] == ["A", "B"]
        assert len(store) == 3  # one pen, not two copies


def test_b1_users_saved_one_by_one_still_share(tmp_path):
    with perdure.make_store(tmp_path / "shop") as store:
        ids = [store.save(user) for user in users_with_one_pen()]
    with perdure.make_store(tmp_path / "shop") as store:
        a, b = (store.load(id_) for id_ in ids)
        assert a.items[0] is b.items[0]


def test_b1_a_change_of_the_shared_object_is_seen_by_both(tmp_path):
    with perdure.make_store(tmp_path / "shop") as store:
        ids = store.save_many(users_with_one_pen())
    with perdure.make_store(tmp_path / "shop") as store, store.transaction():
        store.load(ids[0]).items[0].name = "pencil"
    with perdure.make_store(tmp_path / "shop") as store:
        assert store.load(ids[1]).items[0].name == "pencil"
