"""Errors a user can act on: one line that names the key, the value and what is allowed."""


class SkipError(Exception):
    """A refusal or failure whose message is complete on one line; shown without a traceback."""


class ConfigError(SkipError):
    """A configuration value that cannot work.

    Args:
        key: dotted config key, as typed on the command line (``prune.ratio``).
        value: what was given.
        allowed: what would have been accepted, in words.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")


class ExampleError(SkipError):
    """An example to be answered that is not what the task takes.

    Args:
        number: of the example, from 1.
        why: what is wrong with it.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"example {number}: {why}")
        self.number = number
        self.why = why


class DataError(SkipError):
    """Data that is missing, unreachable or not in the shape that its task describes."""


def first_line(error: BaseException) -> str:
    """What an error says first, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
