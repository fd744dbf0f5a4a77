"""What clients of the MPCS FaaS do, with their own means: requests, dill and codecs.

FAAS_URL says where the gateway is. This file, run as a program, has functions in __main__;
those that stand in it otherwise are pickled by reference, so that workers import it.
"""

import codecs
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid

import dill
import pytest
import requests

import shapes

URL = os.environ.get("FAAS_URL", "").rstrip("/") + "/"
STATES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED")
PATIENCE = 60


def serialize(value):
    return codecs.encode(dill.dumps(value), "base64").decode()


def deserialize(text):
    return dill.loads(codecs.decode(text.encode(), "base64"))


@pytest.fixture(scope="session")
def http():
    with requests.Session() as session:
        yield session


def register(http, function, slash=""):
    answer = http.post(URL + "register_function" + slash, json={"name": function.__name__, "payload": serialize(function)})
    assert answer.status_code in (200, 201), answer.text
    return str(uuid.UUID(answer.json()["function_id"]))


def execute(http, function_id, *args, **kwargs):
    answer = http.post(URL + "execute_function", json={"function_id": function_id, "payload": serialize((args, kwargs))})
    assert answer.status_code in (200, 201), answer.text
    return str(uuid.UUID(answer.json()["task_id"]))


def result(http, task_id):
    """The status and the value of a task, once it has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = http.get(URL + "result/" + task_id)
        assert answer.status_code == 200, answer.text
        answer = answer.json()
        assert set(answer) == {"task_id", "status", "result"}
        assert answer["task_id"] == task_id
        if answer["status"] in ("COMPLETED", "FAILED"):
            assert all(len(line) == 76 for line in answer["result"].split("\n")[:-2])
            assert answer["result"].endswith("\n")
            return answer["status"], deserialize(answer["result"])
        assert answer["status"] in STATES
        assert answer["result"] == ""
    pytest.fail(f"task {task_id} has not ended")


def call(http, function, *args, **kwargs):
    return result(http, execute(http, register(http, function), *args, **kwargs))


def double(x):
    return x * 2


def test_value(http):
    assert call(http, double, 21) == ("COMPLETED", 42)
    assert call(http, double, x="ab") == ("COMPLETED", "abab")
    assert call(http, lambda *a, **k: (a, k), 1, two=2) == ("COMPLETED", ((1,), {"two": 2}))
    assert call(http, lambda: None) == ("COMPLETED", None)


@pytest.mark.parametrize("size", [56, 57, 58, 5_000, 70_000, 3_000_000])
def test_sizes(http, size):
    assert call(http, lambda b: b[::-1], b"a" * (size - 1) + b"z") == ("COMPLETED", b"z" + b"a" * (size - 1))


def test_by_value(http):
    """What stands in a function that no worker can import goes along."""
    factor = 7

    class Scaled:
        def __init__(self, value):
            self.value = value * factor

    def scaled(value):
        return Scaled(value).value

    assert call(http, scaled, 6) == ("COMPLETED", 42)


def test_main():
    """A function of __main__."""
    ran = subprocess.run([sys.executable, __file__], env=os.environ, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "COMPLETED ('main', 5)\n"


def test_by_reference(http):
    """A function of a module that workers import, and values of its classes."""
    payload = dill.dumps(shapes.grown)
    assert b"shapes" in payload and len(payload) < 100
    status, value = call(http, shapes.grown, shapes.Circle(2), by=3)
    assert status == "COMPLETED" and value == shapes.Circle(5)
    status, raised = call(http, shapes.grown, shapes.Circle(0))
    assert status == "FAILED" and type(raised) is shapes.TooSmall and raised.least == 1
    status, raised = call(http, shapes.many, 7)
    assert status == "FAILED" and type(raised) is shapes.TooMany and str(raised) == "7 are too many"
    assert raised.number == 7 and raised.shape == shapes.Circle(7)


def test_exception(http):
    def bad():
        raise NotImplementedError("not yet")

    status, raised = call(http, bad)
    assert status == "FAILED"
    assert isinstance(raised, NotImplementedError) and str(raised) == "not yet"
    status, raised = call(http, lambda: 1 / 0)
    assert status == "FAILED" and isinstance(raised, ZeroDivisionError)
    status, raised = call(http, double)
    assert status == "FAILED" and isinstance(raised, TypeError)


def test_exception_by_value(http):
    """One whose class goes along, and cannot make it with its args."""
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b

    def odd(x):
        raise Odd("m", x)

    status, raised = call(http, odd, 7)
    assert status == "FAILED" and type(raised).__name__ == "Odd" and raised.args == ("m",) and raised.b == 7


def test_exception_without_a_pickle(http):
    def bad():
        class Odd(Exception):
            def __reduce__(self):
                raise RuntimeError("never")

        raise Odd("with text")

    status, raised = call(http, bad)
    assert status == "FAILED" and isinstance(raised, Exception)
    assert "with text" in str(raised)


def test_value_without_a_pickle(http):
    status, raised = call(http, lambda: (i for i in ()))
    assert status == "FAILED" and isinstance(raised, Exception)


def test_died(http):
    """A process that is killed in mid-call ends the call, and nothing else."""
    status, raised = call(http, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert status == "FAILED" and isinstance(raised, Exception)
    assert "signal 9" in str(raised) or "died" in str(raised)
    assert call(http, double, 4) == ("COMPLETED", 8)


def test_status(http, tmp_path):
    gate = str(tmp_path / "gate")

    def wait(gate):
        import os
        import time

        while not os.path.exists(gate):
            time.sleep(0.01)
        return "through"

    task_id = execute(http, register(http, wait), gate)
    seen = set()
    while not seen & {"RUNNING", "COMPLETED", "FAILED"}:
        answer = http.get(URL + "status/" + task_id)
        assert answer.status_code == 200 and set(answer.json()) == {"task_id", "status"}
        assert answer.json()["task_id"] == task_id
        seen.add(answer.json()["status"])
    assert seen <= {"QUEUED", "RUNNING"}
    assert http.get(URL + "result/" + task_id).json() == {"task_id": task_id, "status": "RUNNING", "result": ""}
    pathlib.Path(gate).touch()
    assert result(http, task_id) == ("COMPLETED", "through")
    assert http.get(URL + "status/" + task_id).json()["status"] == "COMPLETED"


def test_register_twice(http):
    assert register(http, double) == register(http, double)


@pytest.mark.parametrize("payload", ["payload", "", "####", "aGVsbG8=", codecs.encode(b"\x80\x04N", "base64").decode()])
def test_no_payload(http, payload):
    answer = http.post(URL + "register_function", json={"name": "hello", "payload": payload})
    assert answer.status_code == 400 and isinstance(answer.json()["detail"], str)
    function_id = register(http, double)
    answer = http.post(URL + "execute_function", json={"function_id": function_id, "payload": payload})
    assert answer.status_code == 400 and isinstance(answer.json()["detail"], str)


def test_forms_of_a_payload(http):
    text = serialize(((21,), {}))
    function_id = register(http, double)
    for form in (text, text.replace("\n", ""), text.replace("\n", "\r\n"), text.strip(), "\n" + text.replace("\n", " \n ")):
        answer = http.post(URL + "execute_function", json={"function_id": function_id, "payload": form})
        assert answer.status_code == 201, form
        assert result(http, answer.json()["task_id"]) == ("COMPLETED", 42)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(http, protocol):
    packed = codecs.encode(pickle.dumps(((21,), {}), protocol), "base64").decode()
    answer = http.post(URL + "execute_function", json={"function_id": register(http, double), "payload": packed})
    assert result(http, answer.json()["task_id"]) == ("COMPLETED", 42)


def test_missing_fields(http):
    answer = http.post(URL + "register_function", json={"name": "hello"})
    assert answer.status_code == 422
    assert answer.json() == {"detail": [{"loc": ["body", "payload"], "msg": "field required", "type": "value_error.missing"}]}
    answer = http.post(URL + "execute_function", json={})
    assert [field["loc"] for field in answer.json()["detail"]] == [["body", "function_id"], ["body", "payload"]]
    assert http.post(URL + "register_function", json={"name": "hello", "payload": {}}).status_code == 422
    assert http.post(URL + "register_function", data="name").status_code == 422
    assert http.post(URL + "register_function").status_code == 422


def test_unknown(http):
    nobody = str(uuid.uuid4())
    for path in ("status/", "result/"):
        answer = http.get(URL + path + nobody)
        assert answer.status_code == 404 and isinstance(answer.json()["detail"], str)
        assert http.get(URL + path + "seven").status_code == 422
    answer = http.post(URL + "execute_function", json={"function_id": nobody, "payload": serialize(((), {}))})
    assert answer.status_code == 404 and isinstance(answer.json()["detail"], str)
    answer = http.post(URL + "execute_function", json={"function_id": "seven", "payload": serialize(((), {}))})
    assert answer.status_code == 422
    # A function is no task.
    assert http.get(URL + "status/" + register(http, double)).status_code == 404


def test_too_large(http):
    answer = http.post(URL + "register_function", json={"name": "large", "payload": "A" * (20 << 20)})
    assert answer.status_code == 413 and isinstance(answer.json()["detail"], str)


def test_methods(http):
    assert http.get(URL + "register_function").status_code == 405
    assert http.put(URL + "execute_function", json={}).json() == {"detail": "Method Not Allowed"}
    assert http.get(URL + "nowhere").json() == {"detail": "Not Found"}


def test_slashes(http):
    function_id = register(http, double, slash="/")
    answer = http.post(URL + "execute_function/", json={"function_id": function_id, "payload": serialize(((21,), {}))})
    assert answer.status_code == 201 and [past.status_code for past in answer.history] == [307]
    task_id = answer.json()["task_id"]
    assert result(http, task_id) == ("COMPLETED", 42)
    assert http.get(URL + "status/" + task_id + "/").json()["status"] == "COMPLETED"
    assert deserialize(http.get(URL + "result/" + task_id + "/").json()["result"]) == 42


def test_many(http):
    """Eight clients at once, fifty calls each."""
    function_id = register(http, double)
    wrong = []

    def client(n):
        with requests.Session() as session:
            tasks = [(i, execute(session, function_id, (n, i))) for i in range(50)]
            for i, task_id in tasks:
                got = result(session, task_id)
                if got != ("COMPLETED", (n, i, n, i)):
                    wrong.append(got)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert wrong == []


if __name__ == "__main__":

    def here(x):
        return "main", x + 1

    with requests.Session() as session:
        print(*call(session, here, 4))
