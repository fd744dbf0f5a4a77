"""Exceptions whose __init__ takes anything but what becomes args. Tests use this as a module
that workers import, and as the text of a program."""

import dataclasses


class Http(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status


class Coded(Exception):
    def __init__(self, words, *, code):
        super().__init__(words)
        self.code = code


class Fixed(Exception):
    def __init__(self):
        Exception.__init__(self, "fixed text")


class Silent(Exception):
    def __init__(self, a, b):
        self.a, self.b = a, b


class Derived(ValueError):
    def __init__(self, *fields):
        super().__init__("bad fields", *fields)


class Gone(OSError):
    def __init__(self, file):
        super().__init__(2, "gone", file)


class Unread(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf8", data, 0, 1, "why")


class Unparsed(SyntaxError):
    def __init__(self, words, line):
        super().__init__(words)
        self.filename, self.lineno = "file", line


class Quit(SystemExit):
    def __init__(self, words, code=4):
        super().__init__(words)
        self.code = code


class Slots(Exception):
    __slots__ = ("place",)

    def __init__(self, place, size):
        super().__init__(size)
        self.place = place


class Made(Exception):
    def __new__(cls, *, by):
        return super().__new__(cls, "made", by)

    def __init__(self, *, by):
        self.by = by


class Reduced(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}/{b}")
        self.both = a, b

    def __reduce__(self):
        return type(self), self.both


@dataclasses.dataclass
class Data(Exception):
    a: int
    b: str = "x"


class Outer(Exception):
    def __init__(self, inner, words):
        super().__init__(inner)
        self.inner, self.words = inner, words


CASES = [
    lambda: Http(404, "gone"), lambda: Coded("x", code=1), lambda: Fixed(), lambda: Silent(1, b=2), lambda: Derived("a", "b"),
    lambda: Gone("file"), lambda: Unread(b"x"), lambda: Unparsed("odd", 3), lambda: Quit("enough", 5), lambda: Slots(1, 2),
    lambda: Made(by=1), lambda: Reduced(1, 2), lambda: Data(a=1), lambda: Outer(Http(404, "gone"), "n"),
    lambda: Outer([{"x": Coded("x", code=1)}], "n"), lambda: ValueError(Fixed()), lambda: OSError(2, "gone", "file", None, "other"),
]


def throw(n):
    raise CASES[n]()


def shown(thing):
    """What there is to see of an exception."""
    if isinstance(thing, (list, tuple)):
        return [shown(x) for x in thing]
    if isinstance(thing, dict):
        return {name: shown(x) for name, x in thing.items() if name != "__navvy_traceback__"}
    if not isinstance(thing, BaseException):
        return thing
    names = "errno", "filename", "filename2", "object", "reason", "lineno", "code", "place"
    rest = [getattr(thing, name, None) for name in names]
    return type(thing), str(thing), shown(thing.args), shown(thing.__dict__), rest
