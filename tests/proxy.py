"""A socket between a client and the server that counts how often the client waited for the server."""

from __future__ import annotations

import contextlib
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

PORT = 5432


class RoundTrips:
    """What clients sent, in turns: all that one sends before the server answers is one round trip."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def forward(self, client: socket.socket, server: socket.socket) -> None:
        """Hand over what each side sends until one of them ends."""
        answered = True
        with contextlib.suppress(ConnectionError), client, server, selectors.DefaultSelector() as ready:
            for source, sink in ((client, server), (server, client)):
                ready.register(source, selectors.EVENT_READ, sink)
            while True:
                for key, _ in ready.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and answered:
                        with self._lock:
                            self.count += 1
                    answered = source is server
                    sink.sendall(data)

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[int]]:
        """Yield a list that holds the number of round trips of the block when it has ended."""
        before, found = self.count, [0]
        yield found
        found[0] = self.count - before


@contextlib.contextmanager
def counting(url: sa.URL) -> Iterator[tuple[sa.URL, RoundTrips]]:
    """Yield an address that leads to the database of ``url``, and the count of its round trips."""
    folder = Path(tempfile.mkdtemp(prefix="proxy-", dir="/tmp"))
    trips = RoundTrips()
    target = str(Path(str(url.query["host"])) / f".s.PGSQL.{url.query['port']}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / f".s.PGSQL.{PORT}"))
    listener.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(target)
                threading.Thread(target=trips.forward, args=(client, server), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield url.set(query={"host": str(folder), "port": str(PORT)}), trips
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(timeout=10)
        shutil.rmtree(folder)
