"""HTTP/1.1 as far as navvy's API needs it: over a unix socket, TCP or TLS, in both
directions at once (RFC 9112; the body of a request goes on while the answer comes).

The standard library's http.client sends a whole body before it reads an answer.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import threading
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .errors import Error, Unavailable, from_answer

CONNECT_TIME = 10.0  # seconds for a connection
CALL_TIME = 60.0  # seconds in which something must come of the answer of a short call
NDJSON = "application/x-ndjson"
_LINE = 64 << 10  # the longest line of a head
# A peer that vanishes is noticed after some 75 seconds in silence, 60 while we send.
_VANISHED = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 60_000}


class Socket:
    """A connected socket that one thread may read while another one writes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._process = os.getpid()
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _VANISHED.items():
                if hasattr(socket, name):  # they are Linux's
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def settimeout(self, seconds: Optional[float]) -> None:
        self._sock.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def readable(self) -> bool:
        """Tell whether recv has something, or the end, at once."""
        return bool(select.select([self._sock], [], [], 0)[0])

    def close(self) -> None:
        """Close it. A thread that reads from it is woken. In a process that was forked
        from its own, the connection itself stays as it is."""
        if self._process == os.getpid():
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._sock.close()


class TLSSocket(Socket):
    """The same over TLS. OpenSSL lets only one thread at a time into a connection, so
    what it makes of bytes is kept apart from waiting for them."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._lock = threading.Lock()  # of the three
        self._sending = threading.Lock()  # records go out in their order
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
        self._flush()

    def _flush(self) -> None:
        with self._sending:
            with self._lock:
                data = self._out.read()
            if data:
                self._sock.sendall(data)

    def _feed(self) -> None:
        data = self._sock.recv(256 << 10)
        with self._lock:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()

    def recv(self, size: int) -> bytes:
        while True:
            with self._lock:
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    return b""
            # Nothing is sent from here: room for it may not come before somebody reads. What
            # OpenSSL has to say, as to a key update, goes with what is sent next, which TLS
            # 1.3 allows (RFC 8446, section 4.6.3).
            self._feed()

    def send(self, data: bytes) -> None:
        with self._lock:
            self._tls.write(data)
        self._flush()

    def readable(self) -> bool:
        with self._lock:
            waits = self._tls.pending() > 0 or self._in.pending > 0
        return waits or super().readable()


class Exchange:
    """One request and its answer on a connection."""

    def __init__(self, sock: Socket, headers: "Dict[str, str]") -> None:
        self._sock = sock
        self._common = headers
        self._buffer = b""
        self.status = 0
        self.headers: Dict[str, str] = {}
        self._parts: Optional[Iterator[bytes]] = None
        self._lines = b""
        self._sought = 0  # so far there is no line end in _lines

    # The request.

    def begin(self, method: str, path: str, headers: "Dict[str, str]", body: Optional[bytes] = None) -> None:
        """Send the head, and the whole body; None is one that comes in parts."""
        lines = [f"{method} {path} HTTP/1.1"]
        fields = {**self._common, **headers}
        if body is None:
            fields["Transfer-Encoding"] = "chunked"
        elif body or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(body))
        lines += [f"{name}: {value}" for name, value in fields.items()]
        self._sock.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def part(self, data: bytes) -> None:
        """Send a part of the body, which must not be empty."""
        self._sock.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """End a body that comes in parts."""
        self._sock.send(b"0\r\n\r\n")

    # The answer.

    def _more(self) -> bytes:
        data = self._sock.recv(256 << 10)
        if not data:
            raise Unavailable("the server has closed the connection")
        return data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if len(self._buffer) > _LINE:
                raise Unavailable("what answers is no navvy: it sends no HTTP")
            self._buffer += self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def head(self) -> int:
        """Wait for the head of the answer, and return its status."""
        words = self._line().split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise Unavailable("what answers is no navvy: it sends no HTTP")
        self.status, self.headers = int(words[1]), {}
        while True:
            line = self._line()
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._parts = self._body()
        return self.status

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked()
        return self._counted(int(self.headers.get("content-length", "0")))

    def _counted(self, left: int) -> Iterator[bytes]:
        while left > 0:
            data = self._buffer or self._more()
            data, self._buffer = data[:left], data[left:]
            left -= len(data)
            yield data

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = int(self._line().split(b";")[0], 16)
            if size == 0:
                while self._line():
                    pass
                return
            while size > 0:
                data = self._buffer or self._more()
                data, self._buffer = data[:size], data[size:]
                size -= len(data)
                if size == 0:
                    self._line()  # before it is handed on: then nothing is left that says nothing
                yield data

    def parts(self) -> Iterator[bytes]:
        """The body of the answer as it comes."""
        assert self._parts is not None
        return self._parts

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts())

    def ready(self) -> bool:
        """Tell whether line has something to work on without waiting."""
        return b"\n" in self._lines or bool(self._buffer) or self._sock.readable()

    def line(self) -> Optional[bytes]:
        """The next line of the body; None behind the last."""
        assert self._parts is not None
        while True:
            end = self._lines.find(b"\n", self._sought)
            if end >= 0:
                line, self._lines, self._sought = self._lines[:end], self._lines[end + 1:], 0
                return line
            parts, size = [self._lines], len(self._lines)
            for part in self._parts:
                parts.append(part)
                if b"\n" in part:
                    break
            else:
                return None
            self._lines, self._sought = b"".join(parts), size

    def lines(self) -> "Tuple[List[bytes], bool]":
        """All whole lines that are there, waiting for one; and whether more may come."""
        first = self.line()
        if first is None:
            return [], False
        whole, _, rest = self._lines.rpartition(b"\n")
        self._lines, self._sought = rest, 0
        return ([first] + whole.split(b"\n") if whole else [first]), True

    def settimeout(self, seconds: Optional[float]) -> None:
        """Bound how long anything of it may take."""
        self._sock.settimeout(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def failure(exchange: Exchange) -> Error:
    """What an answer with a status that is no success says."""
    text = exchange.read()
    try:
        return from_answer(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        kind = Unavailable if exchange.status >= 500 else Error
        return kind(f"the server answers with status {exchange.status}: {text[:200]!r}")


class Transport:
    """How to reach one server. Any number of threads may use it."""

    here = False  # it is this machine's: its workers see our files

    def __init__(self, dial: Any, headers: "Dict[str, str]", name: str) -> None:
        self._dial = dial
        self._headers = headers
        self._idle: List[Exchange] = []
        self._lock = threading.Lock()
        self._closed = False
        self.name = name

    def open(self) -> Exchange:
        """A fresh connection. Unavailable says that there is none to be had now."""
        try:
            sock: Socket = self._dial()
        except Error:
            raise
        except ssl.SSLCertVerificationError as e:
            raise Error(f"{self.name}: the server's certificate is not of the authority in ca: {e.verify_message}") from e
        except OSError as e:
            raise Unavailable(f"{self.name}: {e.strerror or e}") from e
        sock.settimeout(None)
        return Exchange(sock, self._headers)

    def call(self, method: str, path: str, body: Any = None, raw: bool = False) -> Any:
        """Make one short call, and return its answer: JSON, or bytes if raw."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        while True:
            with self._lock:
                used = self._idle.pop() if self._idle else None
            exchange = used or self.open()
            try:
                exchange.settimeout(CALL_TIME)
                exchange.begin(method, path, headers, data)
                exchange.head()
                break
            except (OSError, Unavailable) as e:
                exchange.close()
                if used is None or isinstance(e, socket.timeout):
                    raise Unavailable(f"{self.name}: {e}") from e
            except BaseException:
                exchange.close()
                raise
        try:
            if exchange.status >= 400:
                raise failure(exchange)
            answer = exchange.read()
        except OSError as e:
            exchange.close()
            raise e if isinstance(e, Error) else Unavailable(f"{self.name}: {e}") from e
        except BaseException:
            exchange.close()
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(exchange)
        if self._closed:  # and nobody would close it
            exchange.close()
        return answer if raw else json.loads(answer)

    def close(self) -> None:
        """Close what is idle, and keep nothing any more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for exchange in idle:
            exchange.close()

    def forget(self) -> None:
        """Leave everything to the parent of this process, which was forked."""
        self._lock = threading.Lock()
        self._idle = []
