"""The line between a writer and a standby: both prove that they know the system's key before anything else is said.

    writer   → magic, version, id of the key, a nonce
    standby  → magic, version, a nonce, proof
    writer   → proof
    either   → length, kind, content, tag; and so on

- A proof is keyed BLAKE2b over both nonces: the secret never travels, and what was heard once is no use again.
- A tag covers direction, number, kind and content, with a key that the nonces make for this line alone: what was
  changed, left out or said twice ends the line. Nothing of a message is looked at before its tag was found to be good.
- Nothing that comes here is ever unpickled, and until a peer has proved itself it gets two numbers and nothing else.
- What is said is proved, not hidden: whoever listens can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct

from perdure.errors import ConnectionLost, InvalidArgument, KeyMissing, PrevalenceError, UntrustedRecord
from perdure.prevalence.entries import LARGEST
from perdure.records.seal import TAG_SIZE, Key

MAGIC = b"\xb7PL"
VERSION = 1
PROOF_TIME = 5.0  # seconds for a peer to prove itself, all in all
SILENCE = 10.0  # seconds after which a line on which nothing comes is taken for dead
_CALL = Struct("<3sBI32s")
_ANSWER = Struct("<3sB32s16s")
_LENGTH = Struct("<I")
_LONGEST = LARGEST + (1 << 20)
_TO_STANDBY, _TO_WRITER = b"to standby", b"to writer"

KeyOf = Callable[[int], Key]


class Line:
    """One proved connection. One thread may say while another one hears."""

    def __init__(self, connection: socket.socket, secret: bytes, says: bytes, hears: bytes):
        self._connection = connection
        self._says = hashlib.blake2b(says, key=secret, digest_size=TAG_SIZE)
        self._hears = hashlib.blake2b(hears, key=secret, digest_size=TAG_SIZE)
        self._said = self._heard = 0
        self._gate = threading.Lock()

    def say(self, kind: bytes, *parts: bytes) -> None:
        """Send one message; raises `ConnectionLost`."""
        with self._gate:
            content = b"".join((kind, *parts))
            tag = _tag(self._says, self._said, content)
            self._said += 1
            try:
                self._connection.sendall(_LENGTH.pack(len(content)) + content + tag)
            except OSError as error:
                raise _lost(error) from error

    def hear(self, longest: int = _LONGEST) -> tuple[bytes, bytes]:
        """Wait for the next message: its kind and content. Raises `ConnectionLost` or `UntrustedRecord`."""
        (length,) = _LENGTH.unpack(_received(self._connection, _LENGTH.size))
        if not 0 < length <= longest:  # its tag comes last: until then anybody may have said it
            raise UntrustedRecord("A message on the line to a standby has an impossible length.")
        content = _received(self._connection, length)
        tag = _tag(self._hears, self._heard, content)
        self._heard += 1
        if not hmac.compare_digest(tag, _received(self._connection, TAG_SIZE)):
            raise UntrustedRecord("A message on the line to a standby does not carry a good tag.")
        return content[:1], content[1:]

    def finish(self) -> None:
        """Say nothing more; what was said still arrives."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it; whoever waits on it gets `ConnectionLost`."""
        with suppress(OSError):  # the other side was faster
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def forget(self) -> None:
        """Close it in a fork of the process, whose parent goes on with it."""
        self._connection.close()


def prove_writer(connection: socket.socket, key: Key) -> Line:
    """Have the peer prove itself, then oneself; `UntrustedRecord`, `ConnectionLost`: nothing was told."""
    deadline = time.monotonic() + PROOF_TIME
    connection.settimeout(PROOF_TIME)
    ours = secrets.token_bytes(32)
    _send(connection, _CALL.pack(MAGIC, VERSION, key.id, ours))
    magic, version, theirs, proof = _ANSWER.unpack(_received(connection, _ANSWER.size, deadline))
    if magic != MAGIC or version != VERSION or not hmac.compare_digest(_proof(key, b"standby", ours, theirs), proof):
        raise UntrustedRecord("A peer that asked for the journal does not know the system's key.")
    _send(connection, _proof(key, b"writer", ours, theirs))
    return _line(connection, key, ours, theirs, _TO_STANDBY, _TO_WRITER)


def prove_standby(connection: socket.socket, key_of: KeyOf) -> tuple[Line, Key]:
    """Prove oneself to a writer, and have it prove itself; raises as `prove_writer`, and what `key_of(id)` raises."""
    deadline = time.monotonic() + PROOF_TIME
    magic, version, key_id, theirs = _CALL.unpack(_received(connection, _CALL.size, deadline))
    if magic != MAGIC or version != VERSION:
        raise UntrustedRecord(
            "What answers there is no prevalent system, or one of another release.", hint="Check the address."
        )
    key = key_of(key_id)
    if key.id != key_id:
        raise KeyMissing(f"The system there is sealed with the key {key_id:08x}; the key that was given is {key.name}.")
    ours = secrets.token_bytes(32)
    _send(connection, _ANSWER.pack(MAGIC, VERSION, ours, _proof(key, b"standby", theirs, ours)))
    if not hmac.compare_digest(_received(connection, TAG_SIZE, deadline), _proof(key, b"writer", theirs, ours)):
        raise UntrustedRecord("What answers there does not know the system's key.")
    return _line(connection, key, theirs, ours, _TO_WRITER, _TO_STANDBY), key


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port"; raises `InvalidArgument`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 0xFFFF:
        raise InvalidArgument(f"{text!r:.100} is no address.", hint='An address is "host:port": "127.0.0.1:7007".')
    return host.strip("[]") or "127.0.0.1", int(port)


def listening(address: str, backlog: int) -> socket.socket:
    """What accepts connections there; raises `PrevalenceError`."""
    try:
        return socket.create_server(parse_address(address), backlog=backlog)
    except OSError as error:
        raise PrevalenceError(
            f"Standbys cannot be served at {address}: {error}.", hint="Choose another port."
        ) from error


def connected(address: tuple[str, int]) -> socket.socket:
    """A connection to what listens there; raises `ConnectionLost`."""
    try:
        connection = socket.create_connection(address, PROOF_TIME)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise ConnectionLost(f"Nothing answers at {address[0]}:{address[1]}: {error}.") from error
    return connection


def _line(connection: socket.socket, key: Key, ours: bytes, theirs: bytes, says: bytes, hears: bytes) -> Line:
    secret = hashlib.blake2b(ours + theirs, key=key.secret, digest_size=32, person=b"perdure line").digest()
    connection.settimeout(SILENCE)
    return Line(connection, secret, says, hears)


def _proof(key: Key, who: bytes, writers: bytes, standbys: bytes) -> bytes:
    text = who + writers + standbys
    return hashlib.blake2b(text, key=key.secret, digest_size=TAG_SIZE, person=b"perdure proof").digest()


def _tag(base: hashlib.blake2b, number: int, content: bytes) -> bytes:
    state = base.copy()
    state.update(number.to_bytes(8, "little"))
    state.update(content)
    return state.digest()


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError as error:
        raise _lost(error) from error


def _received(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """So many bytes; by the deadline, however many of them come at a time."""
    parts = []
    while size:
        try:
            if deadline is not None:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(min(size, 1 << 20))
        except OSError as error:
            raise _lost(error) from error
        if not part:
            raise ConnectionLost("The other side has closed the line.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _lost(error: OSError) -> ConnectionLost:
    return ConnectionLost(f"The line was lost: {error}.")
