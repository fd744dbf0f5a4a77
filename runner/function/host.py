"""The host of navvy's Python functions: it calls one function at a time, for one owner.

navvy starts it with one end of a socket as file descriptor 0 and sends it this text
first. docs/functions.md, "The host protocol", says what goes over the socket. It needs
nothing but the standard library of Python 3.8 or later; dill and cloudpickle are
imported when a pickle asks for them.
"""

import builtins
import copyreg
import faulthandler
import fcntl
import importlib
import io
import json
import linecache
import operator
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
import types

PROTOCOL = 1
PYTHON = sys.version.split()[0]

# Kinds of frames. Each has a length, a kind, and so many bytes.
SETUP, LOAD, CALL = 1, 2, 3
HELLO, VALUE, RESULT = 11, 12, 13
HEADER = struct.Struct("<IB")

# CALL begins with the encoding, the flags, the lengths of the function's id and of the
# environment; RESULT with the status, CPU time of user and system in microseconds, the
# peak of memory and the present one in bytes.
CALL_HEAD = struct.Struct("<BBHI")
RESULT_HEAD = struct.Struct("<BQQQQ")
PICKLE, JSON = 0, 1
BATCH = 1
OK, EXCEPTION, LOAD_FAILED, BAD_INPUT = 0, 1, 2, 3
ITEMS = "items"  # begins the value of a batch

CHUNK = 256 << 10  # of a value in one frame
LOOK = 16  # calls, after which memory is looked at that has not reached a new peak
MESSAGE = 4 << 10  # the longest message, in bytes
SOURCE = "navvy_source_"  # begins the names of the modules that sources become
FIRST = 800  # of 1000: how soon the kernel ends a host that has no limit, when memory runs out
HIGH = 1000  # descriptors that a function which closes "all" leaves alone, as a rule


class Unloadable(Exception):
    """The function cannot be loaded here; the text says why and what to do."""


class OtherCode(Unloadable):
    """What was to be read holds code of another Python."""


class BadInput(Exception):
    """The input is not what its encoding says."""


class Host:
    """One process that serves navvy."""

    def __init__(self, lifeline):
        self.lifeline = high(lifeline, close=True)
        self.pid = os.getpid()
        self.fd, self.null = take_socket()
        self.out, self.err = high(1), high(2)
        self.pages = resource.getpagesize()
        self.statm = high(os.open("/proc/self/statm", os.O_RDONLY), close=True)
        self.environ, self.env, self.cwd = os.environ, dict(os.environ._data), where()
        self.functions = {}  # by id: what LOAD said, and what was made of it
        self.path = []
        self.calls = self.peak = self.resident = 0
        self.buffer = b""
        # What has left the call by a fork neither answers nor serves.
        os.register_at_fork(after_in_child=self.leave)
        # Not ignored: that would be inherited by what the function starts.
        signal.signal(signal.SIGINT, lambda *_: None)

    def leave(self):
        os.close(self.fd)
        os.close(self.lifeline)

    def run(self):
        """Serve until navvy closes its end."""
        self.watched()
        self.send(HELLO, json.dumps(self.hello()).encode())
        while True:
            kind, payload = self.receive()
            if kind == CALL:
                self.call(payload)
            elif kind == LOAD:
                self.load(payload)
            elif kind == SETUP:
                self.path = json.loads(payload)["path"]
                sys.path[:0] = self.path
            else:
                os._exit(70)

    def hello(self):
        user, system, _ = used()
        return {
            "protocol": PROTOCOL, "pid": self.pid, "python": PYTHON,
            "executable": sys.executable, "user": user, "system": system, "memory": self.memory(),
        }

    # The socket.

    def watched(self):
        """Have the kernel kill us, and our process group, when navvy is gone.

        Nothing ever comes over the lifeline, so the one signal that there can be is for
        its end. It comes also where a function never lets another thread run.
        """
        fcntl.fcntl(self.lifeline, fcntl.F_SETOWN, -self.pid if os.getpgrp() == self.pid else self.pid)
        fcntl.fcntl(self.lifeline, getattr(fcntl, "F_SETSIG", 10), signal.SIGKILL)
        fcntl.fcntl(self.lifeline, fcntl.F_SETFL, fcntl.fcntl(self.lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def receive(self):
        """Return the next frame. At the end of the connection the process ends."""
        while len(self.buffer) < HEADER.size:
            self.buffer += self.more(64 << 10)
        size, kind = HEADER.unpack_from(self.buffer)
        end = HEADER.size + size
        if len(self.buffer) >= end:
            payload, self.buffer = self.buffer[HEADER.size:end], self.buffer[end:]
            return kind, payload
        whole = bytearray(size)
        have = len(self.buffer) - HEADER.size
        whole[:have] = self.buffer[HEADER.size:]
        self.buffer = b""
        view = memoryview(whole)
        while have < size:
            n = os.readv(self.fd, [view[have:]])
            if n == 0:
                end()
            have += n
        return kind, bytes(whole)

    def more(self, size):
        got = os.read(self.fd, size)
        if not got:
            end()
        return got

    def send(self, kind, payload):
        self.write(HEADER.pack(len(payload), kind) + payload)

    def write(self, data):
        n = os.write(self.fd, data)
        while n < len(data):
            data = memoryview(data)[n:]
            n = os.write(self.fd, data)

    def answer(self, status, message, value):
        """Send the value, then the result. A short value goes out with it."""
        user, system, peak = used()
        self.calls += 1
        if peak != self.peak or self.calls % LOOK == 0:
            self.peak, self.resident = peak, self.memory()
        text = shorten(message)
        result = (HEADER.pack(RESULT_HEAD.size + len(text), RESULT)
                  + RESULT_HEAD.pack(status, user, system, peak, self.resident) + text)
        if len(value) <= CHUNK:
            self.write(HEADER.pack(len(value), VALUE) + value + result)
            return
        view = memoryview(value)
        for at in range(0, len(value), CHUNK):
            part = view[at:at + CHUNK]
            self.write(HEADER.pack(len(part), VALUE))
            self.write(part)
        self.write(result)

    def memory(self):
        """What is resident now, in bytes."""
        try:
            return int(os.pread(self.statm, 100, 0).split()[1]) * self.pages
        except (OSError, ValueError, IndexError):
            return 0  # the function has closed it

    # Functions.

    def load(self, payload):
        """Keep a function for calls. It is loaded by the first, whose output that is then."""
        size, = struct.unpack_from("<I", payload)
        about = json.loads(payload[4:4 + size])
        self.functions.pop(about.get("forget"), None)
        about["code"] = payload[4 + size:]
        self.functions[about["id"]] = about

    def function(self, number):
        global pickler
        about = self.functions[number]
        pickler = about["pickler"]
        if "function" not in about:
            about["function"] = self.loaded(about)
            about["code"] = b""
        return about["function"]

    def loaded(self, about):
        """Return the function itself. Unloadable says why that cannot be."""
        made, own = about["python"].split(".")[:2], PYTHON.split(".")[:2]
        if about["form"] == "pickle" and made != [""] and made != own:
            raise Unloadable(
                "%s; %s, or register the function by reference or as source" % (sides(about), survives(about["python"])))
        importlib.invalidate_caches()
        try:
            function = FORMS[about["form"]](about)
        except OtherCode as e:
            about = dict(about, python=e.__cause__.made)
            raise Unloadable("%s; %s, or register the function by reference or as source" % (sides(about), survives(about["python"]))) from e
        except ModuleNotFoundError as e:
            if e.name in ("dill", "cloudpickle"):
                raise Unloadable("%s: install %s for it, as on the side that pickled it" % (sides(about), e.name)) from e
            raise Unloadable(
                "%s, which does not find the module %s: install it there, or name its directory with --python-path%s"
                % (sides(about), e.name, self.unseen())) from e
        except BadInput as e:
            raise Unloadable("%s, which does not get on with it: %s" % (sides(about), e)) from e
        except BaseException as e:
            raise Unloadable("%s, which cannot load it: %s" % (sides(about), last_line(e))) from e
        if not callable(function):
            raise Unloadable("function %s is a value of type %s, which cannot be called" % (about["name"], type_name(function)))
        return function

    def unseen(self):
        """Name directories of the path that are not there as this process sees it."""
        gone = [path for path in self.path if not os.access(path, os.R_OK | os.X_OK)]
        if not gone:
            return ""
        return ("; it does not see %s: an isolated function sees nothing below /tmp and /var/tmp but what --python-path "
                "names, and nothing that other users may not read" % ", ".join(gone))

    # Calls.

    def call(self, payload):
        encoding, flags, idlen, envlen = CALL_HEAD.unpack_from(payload)
        start = CALL_HEAD.size
        number = payload[start:start + idlen].decode()
        start += idlen
        self.enter(payload[start:start + envlen])
        data = payload[start + envlen:]
        try:
            answer = (self.json if encoding == JSON else self.batch if flags & BATCH else self.pickle)(number, data)
        except BaseException as e:  # what was raised between the parts above, as by a signal's handler
            answer = raised(e, encoding)
        flush()
        self.restore()
        self.answer(*answer)

    def invoke(self, function, args, kwargs):
        """Call it. A child that it has forked, and that comes back from it, ends here."""
        try:
            value = function(*args, **kwargs)
        except BaseException as e:
            if os.getpid() != self.pid:
                end_child(e)
            hint(e)
            raise
        if os.getpid() != self.pid:
            end_child(None)
        return value

    def pickle(self, number, data):
        try:
            function = self.function(number)
            args, kwargs = arguments(loads(data, "its arguments"))
            value = self.invoke(function, args, kwargs)
        except BaseException as e:
            return raised(e, PICKLE)
        try:
            return OK, "", self.pickled(value)
        except BaseException as e:
            return raised(e, PICKLE)

    def pickled(self, value):
        """Pickle what a function returned. What that raises is the function's."""
        try:
            return dumps(value)
        except BaseException as e:
            raise unwritable(value, e, "pickled") from None

    def json(self, number, data):
        try:
            function = self.function(number)
            args, kwargs = json_arguments(data)
            value = self.invoke(function, args, kwargs)
        except BaseException as e:
            return raised(e, JSON)
        try:
            return OK, "", json.dumps(value, allow_nan=False).encode()
        except BaseException as e:
            return raised(unwritable(value, e, "written as JSON"), JSON)

    def batch(self, number, data):
        """Make every call, also behind one that raised.

        Each value is a pickle of its own: one that cannot be read costs no other.
        """
        try:
            function = self.function(number)
            calls = loads(data, "its arguments")
            if not isinstance(calls, list):
                raise BadInput("the input is a pickle of %s: want a list of (args, kwargs)" % a_type(calls))
        except BaseException as e:
            return raised(e, PICKLE)
        items, first, failed = [], "", 0
        for one in calls:
            try:
                args, kwargs = arguments(one)
                items.append((True, self.pickled(self.invoke(function, args, kwargs))))
            except BaseException as e:
                first, failed = first or last_line(e), failed + 1
                items.append((False, presented(e)))
        value = dumps((ITEMS, items))
        if not failed:
            return OK, "", value
        if failed > 1:
            first = "%s (the first of %d of %d calls that failed)" % (first, failed, len(calls))
        return EXCEPTION, first, value

    def enter(self, env):
        """Give a call its output and its environment."""
        if getattr(sys, "stdout", None) is not self.stdout or self.stdout.closed:
            sys.stdout = self.stdout = opened(1)
        if getattr(sys, "stderr", None) is not self.stderr or self.stderr.closed:
            sys.stderr = self.stderr = opened(2)
        for pair in env.split(b"\0"):
            name, _, value = pair.partition(b"=")
            if self.env.get(name) != value:
                self.env[name] = self.environ._data[name] = value
                os.putenv(name, value)

    def restore(self):
        """Undo what a call did to what the next one finds."""
        os.environ = self.environ
        # What is under it: a comparison of dictionaries of bytes costs next to nothing.
        data = self.environ._data
        if data != self.env:
            for name in set(data) - set(self.env):
                os.unsetenv(name)
            for name, value in self.env.items():
                if data.get(name) != value:
                    os.putenv(name, value)
            data.clear()
            data.update(self.env)
        if where() != self.cwd:
            try:
                os.chdir(self.cwd)
            except OSError:
                os.chdir("/")
        for kept, fd in (self.null, 0), (self.out, 1), (self.err, 2):
            try:
                os.dup2(kept, fd)
            except OSError:
                os._exit(72)  # not even these are left: another host does better

    stdout = stderr = None


# Descriptors.


def high(fd, close=False):
    """A copy of a descriptor, out of the way of what a function opens and closes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = HIGH if soft < 0 or soft > HIGH + 20 else max(soft - 20, 3)
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    if close:
        os.close(fd)
    return copy


def take_socket():
    """Move the socket away from descriptor 0, from which a function reads nothing then.

    Return it, and what is there in its place.
    """
    taken = high(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    return taken, high(null, close=True)


def end():
    """End, with what functions have left in our process group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def opened(fd):
    """A text stream like Python's own, but for lines that go out when they are whole."""
    return open(fd, "w", buffering=1, encoding="utf-8", closefd=False,
                errors="backslashreplace" if fd == 2 else "surrogateescape")


def flush():
    for name in "stdout", "stderr":
        try:
            getattr(sys, name).flush()
        except BaseException:
            pass  # the function has closed or replaced it, by what may raise anything


def end_child(e):
    """End like a Python process that is through, or that raised."""
    code = 0 if e is None else 1
    if isinstance(e, SystemExit):
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    elif e is not None:
        sys.stderr.write(trace(e))
    flush()
    os._exit(code & 0xFF)


def where():
    try:
        return os.getcwd()
    except OSError:
        return None


def used():
    """CPU time of this process, and of those that it has waited for, in microseconds; peak memory in bytes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    kin = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((own.ru_utime + kin.ru_utime) * 1e6), int((own.ru_stime + kin.ru_stime) * 1e6), own.ru_maxrss << 10


# Functions.


def unpickled(about):
    return loads(about["code"], "function " + about["name"])


def attribute(of, path):
    for name in path.split("."):
        of = getattr(of, name)
    return of


def from_source(about):
    name = SOURCE + about["id"].replace("-", "")
    module = types.ModuleType(name)
    file = module.__file__ = "<navvy function %s>" % about["name"]
    text = about["code"].decode("utf-8")
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec"), module.__dict__)
        return attribute(module, about["entry"])
    except BaseException:
        del sys.modules[name]
        raise


def from_reference(about):
    module, _, path = about["entry"].partition(":")
    return attribute(importlib.import_module(module), path)


FORMS = {"pickle": unpickled, "source": from_source, "reference": from_reference}


def sides(about):
    """Name both sides: how the function came, and what runs it."""
    made = {"pickle": "was pickled", "source": "is a source", "reference": "is %s" % about["entry"]}[about["form"]]
    by = []
    if about["python"]:
        by.append("Python " + about["python"])
    if about["pickler"]:
        by.append(about["pickler"])
    if by:
        made += " with " + " and ".join(by)
    if about["form"] == "pickle":
        own = " with %s" % (", ".join(filter(None, map(version, ("dill", "cloudpickle")))) or "neither dill nor cloudpickle")
    else:
        own = ""
    return "function %s %s; this worker's host is Python %s (%s)%s" % (
        about["name"], made, PYTHON, sys.executable, own)


def survives(python):
    if python.startswith("3.7"):
        return "bytecode does not survive another minor version, and workers need 3.8 or later: pickle with Python " + PYTHON
    return "bytecode does not survive another minor version: start the worker with --python of a Python %s" % python


def version(module):
    """Name and version of a module, or why it cannot be imported; empty if it is not there."""
    try:
        return "%s %s" % (module, importlib.import_module(module).__version__)
    except Exception as e:
        absent = isinstance(e, ModuleNotFoundError) and e.name == module
        return "" if absent else "a %s that cannot be imported (%s)" % (module, last_line(e))


# Pickles.


def loads(data, what):
    """Read a pickle. dill's own need dill; everything else is faster without."""
    try:
        refuse_other_code(data)
        if b"dill" in data:
            import dill
            return dill.loads(data)
        return pickle.loads(data)
    except OtherPython as e:
        raise OtherCode(
            "%s hold code that was pickled with Python %s; this worker's host is Python %s (%s); %s, "
            "or pass functions that it can import" % (what, e.made, PYTHON, sys.executable, survives(e.made))) from e
    except ModuleNotFoundError:
        raise
    except Exception as e:
        raise BadInput("%s cannot be unpickled: %s" % (what, last_line(e))) from e


pickler = ""  # of the function that is called, as in "dill 0.3.6"


def plainly(module, value):
    return module.dumps(value, protocol=4)


def dumps(value, write=plainly):
    """Pickle a value: plainly, if that will do, else by value with what is installed.

    What has pickled the function comes first: the other side has it, and knows the classes
    again that went through it. Then comes what something has been read with.
    """
    try:
        return write(pickle, value)
    except Exception as plain:
        for name in sorted(("dill", "cloudpickle"), key=lambda name: (not pickler.startswith(name), name not in sys.modules)):
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
            try:
                return write(module, value)
            except Exception:
                continue
        raise plain


def arguments(call):
    if isinstance(call, tuple) and len(call) == 2 and isinstance(call[0], (tuple, list)) and isinstance(call[1], dict):
        return call
    came = a_type(call)
    if isinstance(call, tuple):
        came = "a tuple of %s and %s" % tuple(map(a_type, call)) if len(call) == 2 else "a tuple of %d" % len(call)
    raise BadInput("a call is pickled as (args, kwargs), a tuple and a dict, not as %s" % came)


def json_arguments(data):
    try:
        call = json.loads(data)
    except ValueError as e:
        begins = bytes(data[:300]).decode("utf-8", "replace")
        raise BadInput("the input is not JSON: %s (%s)" % (begins, e)) from e
    if isinstance(call, dict) and set(call) <= {"args", "kwargs"}:
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
    raise BadInput('the input is not like {"args": [...], "kwargs": {...}}')


# Exceptions.


def type_name(value):
    return type(value).__qualname__


def a_type(value):
    name = type_name(value)
    return ("an " if name[:1] in "aeioAEIO" else "a ") + name


def last_line(e):
    """What Python prints last, as in "ValueError: too low"."""
    try:
        text = str(e)
    except BaseException:
        text = "<its text cannot be told>"
    name = type(e).__name__
    return "%s: %s" % (name, text) if text else name


def shorten(text):
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= MESSAGE else raw[:MESSAGE].decode("utf-8", "ignore").encode()


def trace(e):
    """The traceback as text, from the function on."""
    try:
        first = e.__traceback__
        while first is not None and first.tb_frame.f_globals is globals():
            first = first.tb_next
        return "".join(traceback.format_exception(type(e), e, first))
    except BaseException:
        return last_line(e) + "\n"


def hint(e):
    """Say why a function that dill has pickled misses a name, where Python takes notes (3.11)."""
    if type(e) is not NameError or not e.__traceback__ or not hasattr(e, "add_note"):
        return
    last = e.__traceback__
    while last.tb_next:
        last = last.tb_next
    left = last.tb_frame.f_globals
    if e.name and e.name not in left and left is getattr(sys.modules.get("__main__"), "__dict__", None):
        e.add_note("dill leaves the globals of __main__ behind: import inside of the function, or pickle it with recurse=True")


def unwritable(value, e, how):
    return TypeError("the function returned a value of type %s that cannot be %s: %s" % (type_name(value), how, last_line(e)))


def raised(e, encoding):
    """The answer of a call that raised."""
    status, message = EXCEPTION, last_line(e)
    if isinstance(e, Unloadable):
        status, message = LOAD_FAILED, str(e)
    elif isinstance(e, BadInput):
        status, message = BAD_INPUT, str(e)
    e = known(e)
    if encoding == JSON:
        about = {"type": type(e).__name__, "message": last_line(e).partition(": ")[2], "traceback": trace(e)}
        return status, message, json.dumps(about).encode()
    return status, message, presented(e)


def known(e):
    """One of Python's own exceptions in place of ours."""
    if isinstance(e, Unloadable):
        return (ImportError if isinstance(e.__cause__, ImportError) else RuntimeError)(str(e))
    return ValueError(str(e)) if isinstance(e, BadInput) else e


def presented(e):
    """A pickle of an exception with its traceback as text, that can be read again: as itself
    if that can be, else as one like it."""
    e = known(e)
    text = trace(e)
    try:
        e.__navvy_traceback__ = text
    except Exception:
        pass
    if not type(e).__module__.startswith(SOURCE):  # nobody else has these modules
        nearly = None
        for write in plainly, rebuilding:
            try:
                data = dumps(e, write)
                again = loads(data, "")
                if same(e, again):
                    return data
                if type(again).__name__ == type(e).__name__ and str(again) == str(e):
                    nearly = data  # as far as can be told: not everything can be compared
            except BaseException:
                continue
        if nearly is not None:
            return nearly
    return dumps(Replaced(e, text))


def rebuilding(module, value):
    """Pickle with what makes exceptions without their __init__, from what they have.

    Plain pickles have cls(*args), which fails, or gives another exception, where __init__
    takes anything but what becomes args. Whoever reads these needs nothing for it.
    """
    kind = getattr(module, "CloudPickler", module.Pickler)

    class Pickler(kind):
        def reducer_override(self, thing):
            if isinstance(thing, BaseException) and (thing is value or made_oddly(type(thing))):
                return parts(thing)
            inherited = getattr(super(), "reducer_override", None)
            return NotImplemented if inherited is None else inherited(thing)

    Pickler.__module__ = kind.__module__  # dill looks at it
    out = io.BytesIO()
    Pickler(out, protocol=4).dump(value)
    return out.getvalue()


def made_oddly(kind):
    """Tell whether a class makes its exceptions by a way of its own, but pickles them by that of all."""
    own = [isinstance(getattr(kind, name), types.FunctionType) for name in ("__reduce__", "__reduce_ex__", "__init__", "__new__")]
    return any(own[2:]) and not any(own[:2])


def parts(e):
    """What an exception is made of, as __reduce__ has it."""
    kind, args = type(e), e.args
    make = copyreg.__newobj__
    if not isinstance(kind.__new__, types.BuiltinFunctionType):
        make = next(base.__new__ for base in kind.__mro__
                    if issubclass(base, BaseException) and isinstance(base.__new__, types.BuiltinFunctionType))
    if isinstance(e, getattr(builtins, "BaseExceptionGroup", ())):
        args = e.message, e.exceptions
    bare = make(kind, *args)
    has, state = fields(bare), dict(e.__dict__)
    for name, value in fields(e).items():
        if name not in has or has[name] is not value:
            state[name] = value
    if len(bare.args) != len(e.args) or any(map(operator.is_not, bare.args, e.args)):
        state["args"] = e.args  # as of an OSError, which is filled by __init__
    return make, (kind,) + args, state or None


def fields(e):
    """What an exception has beside args and __dict__: slots, and what Python's own keep in C, as errno."""
    found = {}
    for base in type(e).__mro__:
        if base in (BaseException, object):
            continue
        for name, about in vars(base).items():
            if isinstance(about, (types.MemberDescriptorType, types.GetSetDescriptorType)) and name not in UNKEPT:
                try:
                    found[name] = about.__get__(e)
                except Exception:
                    continue  # it has none
    return found


UNKEPT = "__dict__", "__weakref__", "obj"  # obj of an AttributeError may be anything, and pickle leaves it out, too


def same(a, b):
    """Tell whether one exception is a copy of the other."""
    return (alike(a, b) and str(a) == str(b) and type(a).__module__ == type(b).__module__
            and alike(fields(a), fields(b)))


def alike(a, b, depth=8):
    """Tell whether one value is a copy of the other, as far as that can be compared."""
    if a is b or depth == 0:
        return True
    if type(a).__qualname__ != type(b).__qualname__:
        return False
    if isinstance(a, BaseException):
        return alike(a.args, b.args, depth - 1) and alike(a.__dict__, b.__dict__, depth - 1)
    try:
        if a == b or a != a:  # the latter is a NaN
            return True
    except Exception:
        return True  # an array, for one
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key], depth - 1) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(lambda x, y: alike(x, y, depth - 1), a, b))
    return type(a).__eq__ is object.__eq__


class Replaced:
    """Is pickled as an exception like one that cannot be: same name, same text.

    Whoever reads it needs neither navvy nor the class: the pickle makes one, below the
    nearest of Python's own exceptions.
    """

    def __init__(self, e, trace):
        words = last_line(e).partition(": ")[2]
        self.state = {"__navvy_traceback__": trace}
        for base in type(e).__mro__ + (Exception,):
            if base.__module__ != "builtins" or not issubclass(base, BaseException):
                continue
            self.made, self.args = Made(type(e), base), (words,)
            try:
                if str(type("test", (base,), {})(words)) == words:
                    return
            except Exception:
                continue

    def __reduce__(self):
        return self.made, self.args, self.state


class Made:
    """Is pickled as a call that makes a class."""

    def __init__(self, like, base):
        self.args = like.__name__, (base,), {"__module__": like.__module__, "__qualname__": like.__qualname__}

    def __call__(self):
        raise TypeError("it is only there to be pickled")

    def __reduce__(self):
        return type, self.args


def volunteer():
    """Have the kernel end this process, and what functions start, before navvy and others
    when the machine runs out of memory."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as f:
            if int(f.read()) < FIRST:
                f.seek(0)
                f.write(str(FIRST))
    except (OSError, ValueError):
        pass  # it is only a wish


def main(lifeline):
    volunteer()
    faulthandler.enable(2)  # who dies of a signal says where
    host = Host(lifeline)
    host.stdout, host.stderr = sys.stdout, sys.stderr
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    try:
        host.run()
    except OSError:
        os._exit(72)  # the function has closed what is the host's
