"""A module that workers import."""

import os


class Refused(Exception):
    def __init__(self, code, words):
        super().__init__(code, words)
        self.code = code


def double(x):
    return 2 * x


def refuse(code):
    raise Refused(code, "not this one")


def where():
    return os.getpid(), __name__
