"""What functions are pickled by reference from: workers import it by --python-path."""


class Circle:
    def __init__(self, radius):
        self.radius = radius

    def __eq__(self, other):
        return isinstance(other, Circle) and other.radius == self.radius


class TooSmall(ValueError):
    def __init__(self, radius, least):
        super().__init__(radius, least)
        self.radius, self.least = radius, least


class TooMany(Exception):
    """Cannot be made with its args."""

    def __init__(self, shape, number):
        super().__init__(f"{number} are too many")
        self.shape, self.number = shape, number


def many(number):
    raise TooMany(Circle(number), number)


def grown(circle, *, by=1):
    if circle.radius < 1:
        raise TooSmall(circle.radius, 1)
    return Circle(circle.radius + by)
