#!/usr/bin/python3
"""A service of navvy in Python: it answers a text with its words in reverse order.

    navvy worker start --requests URL --responses URL --service 'grpc-cmd:python3 reverse.py'

It wants the package grpcio, and nothing that protoc would have to write: the messages of
navvy.service.v1.UserService have so few fields that they are read and written here.
"""

import os
import signal
import threading
from concurrent import futures

import grpc


def invoke(request, context):
    """Answers one request. Many run at once, as threads."""
    try:
        words = request["input"].decode().split()
    except UnicodeDecodeError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the input is no text")  # it never will be
    if words == ["fail"]:
        raise RuntimeError("as you wish")  # the request is tried again a few times
    return " ".join(reversed(words)).encode()


def initialize(request, context):
    """Makes the service ready, before the first request."""
    return b""


def dispose(request, context):
    """Ends the service, after the last request."""
    return b""


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def read_request(data):
    """Reads an InvokeRequest: input, id and attempt."""
    request, at = {"input": b"", "id": "", "attempt": 0}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
        else:  # a field that navvy has learnt since: eight bytes, or four
            at += 8 if kind == 1 else 4
            continue
        if tag == 1 << 3 | 2:
            request["input"] = value
        elif tag == 2 << 3 | 2:
            request["id"] = value.decode()
        elif tag == 3 << 3:
            request["attempt"] = value
    return request


def write_answer(output):
    """Writes an InvokeResponse."""
    size, head = len(output), bytearray([1 << 3 | 2])
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + output


def main():
    def method(function, read=lambda data: data, write=lambda answer: answer):
        return grpc.unary_unary_rpc_method_handler(function, read, write)

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=32),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler("navvy.service.v1.UserService", {
            "Initialize": method(initialize),
            "Invoke": method(invoke, read_request, write_answer),
            "Dispose": method(dispose),
        })
    ])
    server.add_insecure_port(os.environ["NAVVY_SERVICE_ADDR"])

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def watch():  # standard input ends with navvy, however that ends
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    server.start()
    stop.wait()
    server.stop(grace=30).wait()


if __name__ == "__main__":
    main()
