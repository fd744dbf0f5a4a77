"""What goes over a connection, with a peer of the tests' own."""

import select
import socket
import ssl
import threading

import navvy
import pytest
from conftest import PATIENCE, until
from navvy import _wire


def secured(sock):
    """The two ends of a connection with TLS, without certificates."""
    contexts = []
    for side in ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER:
        context = ssl.SSLContext(side)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # the last one to go without them
        context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
        contexts.append(context)
    ours, theirs = sock
    made = []
    shaking = threading.Thread(target=lambda: made.append(contexts[1].wrap_socket(theirs, server_side=True)))
    shaking.start()
    ours = _wire.TLSSocket(ours, contexts[0], "peer")
    shaking.join(PATIENCE)
    return ours, made[0]


@pytest.fixture
def pair():
    pair = socket.socketpair()
    yield pair
    for sock in pair:
        sock.close()


def test_reads_while_it_cannot_send(pair):
    """A peer that takes no more until its answers are taken gets them taken."""
    ours, theirs = secured(pair)
    ours.settimeout(PATIENCE)
    sent = []

    def send():
        for _ in range(64):
            ours.send(bytes(64 << 10))
            sent.append(1)

    sending = threading.Thread(target=send)
    sending.start()
    until(lambda: ours._sending.locked() and not select.select([], [ours._sock], [], 0)[1], "there is no more room")
    got = []
    reading = threading.Thread(target=lambda: got.append(ours.recv(100)))
    reading.start()
    theirs.sendall(b"answer")
    reading.join(5)
    assert got == [b"answer"]
    read = 0
    while read < 64 * (64 << 10):
        read += len(theirs.recv(1 << 20))
    sending.join(PATIENCE)
    assert len(sent) == 64
    theirs.close()
    ours.close()


def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s


def test_vanished_peers(monkeypatch):
    """Who says nothing is noticed: in a short call, and by the kernel on any connection."""
    monkeypatch.setattr(_wire, "CALL_TIME", 0.1)
    with listener() as s:
        nv = navvy.connect("http://127.0.0.1:%d" % s.getsockname()[1], token="t")
        with pytest.raises(navvy.Unavailable, match="timed out"):
            nv.whoami()
        conn, _ = s.accept()
        assert conn.recv(10)
        answering = threading.Thread(target=lambda: s.accept()[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"))
        answering.start()
        with pytest.raises(navvy.Unavailable):
            nv.whoami()
        answering.join(PATIENCE)
        sock = nv.transport.open()._sock._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
        conn.close()
        sock.close()


def test_ready_means_a_line(pair):
    """What ends a chunk is nothing to wait for a line by."""
    exchange = _wire.Exchange(_wire.Socket(pair[0]), {})
    pair[1].sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert exchange.head() == 200
    for text in b"one", b"two":
        assert not exchange.ready()
        pair[1].sendall(b"%x\r\n%b\n\r\n" % (len(text) + 1, text))
        assert exchange.ready() and exchange.line() == text
    assert not exchange.ready()
