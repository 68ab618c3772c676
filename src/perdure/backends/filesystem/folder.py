"""The folder of a store in a directory: making it, recognising it, and what it is called.

- The file `store` comes last, so that half a store is none.
- It has the store's id. An open store remembers it, so that another one that was made in its place is neither read nor
  written.
- Folders that copying tools leave out because they are empty are made again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from zlib import crc32

from perdure.backends.base import NewKey
from perdure.errors import AccessDenied, CorruptRecord, NewerFormat, NotAStore, StorageError, StoreNotFound
from perdure.files import DIRECTORY, FILE, Files

LAYOUT = 1  # the format of everything in .perdure, and of the names outside it
ENCRYPTED_LAYOUT = 2  # the same, of a store in which everything is encrypted
OWN_FOLDER = ".perdure"
FOLDERS = ("own", "old", "aside")  # in it


class Folder:
    """The directory of a store, and perdure's own folder in it."""

    def __init__(self, directory: str, files: Files):
        self.directory = directory
        self.own = os.path.join(directory, OWN_FOLDER)
        self.files = files
        self._store = ""  # the id of the store that was there at first
        self._stamp: tuple[int, ...] | None = None  # of the file `store`, when it was last read

    def path(self, name: str) -> str:
        """The path of something in perdure's own folder."""
        return os.path.join(self.own, name)

    def make(self, store: str, new_key: NewKey, timeout: float) -> None:
        """Make the store unless it is there; its `store` file comes last, so half a store is none."""
        files = self.files
        if files.kind(self.path("store")) is not None and self._has_folders():
            return
        try:
            files.make_directories(self.own)
        except StorageError as error:
            if isinstance(error.__cause__, (NotADirectoryError, FileExistsError)):
                raise self._not_a_store("it is no directory") from error
            if isinstance(error.__cause__, FileNotFoundError):
                raise self._not_a_store("it is a link to what is not there, or was taken away this moment") from error
            raise
        if files.kind(self.own) != DIRECTORY:
            raise self._not_a_store("it has a file named .perdure")
        with files.lock(self.path("lock"), create=True, timeout=timeout):
            if files.kind(self.path("store")) is not None:
                self._make_folders()  # copying tools, git among them, leave out what is empty
                return
            if files.size(self.path("log")) or files.size(self.path("journal")):
                raise self._not_a_store("its file .perdure/store was taken away")
            self._make_folders()
            for name in ("log", "journal"):
                files.write_new(self.path(name), b"")
                files.sync(self.path(name))
            files.sync_directory(self.own)
            files.sync_directory(self.directory)
            with suppress(AccessDenied):  # whoever may not read the folder above did not make this one either
                files.sync_directory(os.path.dirname(self.directory))
            self._write_store(store, new_key())

    def _write_store(self, store: str, key: int, layout: int = LAYOUT) -> None:
        text = json.dumps({"perdure": layout, "store": store, "key": key})
        self.files.replace_durably(self.path("store"), f"{crc32(text.encode()):08x} {text}\n".encode())

    def seal_with(self, key: int) -> None:
        """Note that the store's records, of which there are none yet, are sealed with the key of that id."""
        layout, store, known = self.identify()
        if key != known:
            self._write_store(store, key, layout)

    def mark_encrypted(self, revision: int) -> None:
        """Note that all that the store will hold is encrypted; `ValueError` if it is beyond revision 0."""
        if revision:
            raise ValueError(f"the store is at revision {revision}")
        _, store, key = self.identify()
        self._write_store(store, key, ENCRYPTED_LAYOUT)

    def _has_folders(self) -> bool:
        return all(self.files.kind(self.path(name)) == DIRECTORY for name in FOLDERS)

    def _make_folders(self) -> None:
        for name in FOLDERS:
            self.files.make_directories(self.path(name))

    def identify(self) -> tuple[int, str, int]:
        """Layout, store id and key id; raises `StoreNotFound`, `NotAStore` or `NewerFormat`."""
        data = self.files.read(self.path("store"))
        if data is None:
            if self.files.kind(self.directory) == FILE:
                raise self._not_a_store("it is no directory")
            raise StoreNotFound(
                f"There is no store in {self.directory}.", hint="Check the path; opened for writing, it is made."
            )
        check, _, text = data.rstrip(b"\n").partition(b" ")
        try:
            told = json.loads(text)
            format_, store, key_id = int(told["perdure"]), str(told["store"]), int(told["key"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_a_store("its file .perdure/store says nothing that perdure knows") from error
        if format_ > ENCRYPTED_LAYOUT:
            raise NewerFormat(
                f"The store {self.directory} has format {format_}; this release of perdure reads up to"
                f" {ENCRYPTED_LAYOUT}.",
                hint="Install a later release.",
                path=self.directory,
            )
        if check != f"{crc32(text):08x}".encode():
            raise CorruptRecord(f"{self.path('store')} is damaged.", hint="Take it from a backup.", path=self.directory)
        return format_, store, key_id

    def refuse_gone(self) -> None:
        """Raise `StorageError` if the store's folder is not there any more."""
        if self.files.kind(self.own) is None:
            raise self._moved()

    def is_same(self) -> bool:
        """Whether the file `store` is the one that was last read; another may be a copy, or another store's."""
        return self._stamp is not None and self.files.stamp(self.path("store")) == self._stamp

    def recognise(self) -> bool:
        """Whether the store's files were put back meanwhile; raises `StorageError` if another store has their place."""
        stamp = self.files.stamp(self.path("store"))
        if stamp is not None and stamp == self._stamp:
            return False
        if stamp is None and self._store:
            raise self._moved()
        _, store, _ = self.identify()
        if self._store and store != self._store:
            raise self._moved()
        is_other = bool(self._store)
        self._store, self._stamp = store, stamp
        return is_other

    def resemble(self, other: Folder) -> None:
        """Take for one's own the store that `other`, of the same directory, has recognised."""
        self._store, self._stamp = other._store, other._stamp

    def _moved(self) -> StorageError:
        return StorageError(
            f"The store {self.directory} was moved, removed or replaced while it was open.",
            hint="Put it back, or open it where it is now.",
            path=self.directory,
        )

    def _not_a_store(self, why: str) -> NotAStore:
        return NotAStore(
            f"{self.directory} is no store: {why}.", hint="Give the path of a directory.", path=self.directory
        )
