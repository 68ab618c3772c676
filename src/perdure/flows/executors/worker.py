"""The worker: a process that runs jobs one after the other, and reads what they need through the engine.

- It has no connection to the store: it asks the engine, which reads, and which commits what comes back. The store's
  key reaches it over the same channel, never on a command line.
- When the channel ends, the engine is gone: the worker exits at once, in the middle of a job if need be, and takes the
  processes with it that its jobs have started (the worker leads a process group).
- Messages are pickles of tuples on an inherited socket that nobody else can reach. Large pieces of records come after
  the pickle, in parts, straight from the memory that they are in and into the memory that they stay in.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from struct import Struct
from typing import Any, NamedTuple

from perdure.flows.resources import ReceivedResources
from perdure.flows.tasks import Workplace, failure, run_task
from perdure.records.buffers import PART
from perdure.records.seal import Key
from perdure.records.values import Buffer, Description

HELLO, TASK, ANSWER, END = "hello", "task", "answer", "end"  # from the engine
READ, CLASSES, RESERVE, BUFFER, OUTCOME = "read", "classes", "reserve", "buffer", "outcome"  # from the worker

_NUMBER = Struct("<Q")

_inside = False


class Roots(NamedTuple):
    """What a worker imports from instead of the engine's path: these directories, and what is installed for it."""

    first: tuple[str, ...]
    last: tuple[str, ...]


def inside_worker() -> bool:
    """Whether this process is a worker."""
    return _inside


def out_of_band(buffers: Mapping[str, Buffer]) -> Mapping[str, Any]:
    """Large pieces in the form in which a message carries them beside its pickle."""
    return {digest: pickle.PickleBuffer(content) for digest, content in buffers.items()}


class Channel:
    """Messages over a connection; one thread may send while another receives."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, *message: Any) -> None:
        given: list[pickle.PickleBuffer] = []
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL, buffer_callback=given.append)
        buffers = [buffer.raw() for buffer in given]
        head = Struct(f"<{len(buffers) + 1}Q").pack(len(buffers), *map(len, buffers))
        with self._sending:
            self.connection.send_bytes(head + data)
            for buffer in buffers:
                for start in range(0, len(buffer), PART):
                    self.connection.send_bytes(buffer[start : start + PART])

    def receive(self) -> tuple[Any, ...]:
        data = memoryview(self.connection.recv_bytes())
        (count,) = _NUMBER.unpack_from(data)
        sizes = Struct(f"<{count}Q").unpack_from(data, _NUMBER.size)
        buffers = [self._receive_buffer(size) for size in sizes]
        message: tuple[Any, ...] = pickle.loads(data[_NUMBER.size * (count + 1) :], buffers=buffers)
        return message

    def _receive_buffer(self, size: int) -> bytearray:
        buffer, filled = bytearray(size), 0
        while filled < size:
            filled += self.connection.recv_bytes_into(buffer, filled)
        return buffer


class _EngineReader:
    """Reads records by asking the engine."""

    def __init__(self, channel: Channel):
        self._channel = channel
        self._asking = threading.Lock()
        self.answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        found: dict[str, bytes] = self._ask(READ, list(ids), at)
        return found

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        found: dict[str, str] = self._ask(CLASSES, list(ids), at)
        return found

    def reserve(self, count: int, *, durable: bool = True) -> int:
        first: int = self._ask(RESERVE, count, durable)
        return first

    def buffer(self, digest: str) -> Buffer:
        found: Buffer = self._ask(BUFFER, digest)
        return found

    def _ask(self, *question: Any) -> Any:
        with self._asking:
            self._channel.send(*question)
            answer, error = self.answers.get()
        if error is not None:
            raise error
        return answer


def main(descriptor: int) -> None:
    """Run tasks until the engine says that it is the end, or is gone."""
    global _inside
    _inside = True
    # Ctrl-C reaches the whole group of processes: the engine decides what becomes of the jobs that are out.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    channel = Channel(Connection(descriptor))
    _, path, described, secret, resources = channel.receive()
    if isinstance(path, Roots):
        import_only_from(path)
    else:
        sys.path[:] = path
    reader = _EngineReader(channel)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, reader, tasks), daemon=True).start()
    key = None if secret is None else Key(secret)
    place = Workplace(reader, Description(*described), key, ReceivedResources(resources), reports=True)
    while (task := tasks.get()) is not None:
        try:
            outcome = run_task(task, place)
        except KeyboardInterrupt as error:  # raised by the job itself: no signal raises it here
            outcome = failure(task.job, time.time(), error)
        with suppress(OSError, ValueError):  # the terminal may be gone, or the job has closed its streams
            sys.stdout.flush()
            sys.stderr.flush()
        channel.send(OUTCOME, outcome._replace(buffers=out_of_band(outcome.buffers)))


def import_only_from(roots: Roots) -> None:
    """Let this process import from there and from what is installed, and nothing else of the user's."""
    from perdure.code.modules import is_installation

    installed = [entry for entry in sys.path if entry and is_installation(entry)]
    sys.path[:] = [*roots.first, *(entry for entry in installed if entry not in roots.last), *roots.last]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in _origin(finder)]
    sys.path_importer_cache.clear()


def _origin(finder: object) -> str:
    cls = finder if isinstance(finder, type) else type(finder)
    return f"{cls.__module__}.{cls.__qualname__}"


def _listen(channel: Channel, reader: _EngineReader, tasks: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            kind, *rest = channel.receive()
        except (EOFError, OSError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpid(), signal.SIGKILL)
            os._exit(1)
        if kind == ANSWER:
            reader.answers.put((rest[0], rest[1]))
        elif kind == TASK:
            tasks.put(rest[0])
        else:
            tasks.put(None)
            return
