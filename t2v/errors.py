"""The one exception that speaks to the user."""


class InputError(ValueError):
    """Something the user gave is wrong. The message is one line: what was wrong, what was got, what to do.

    Commands print the message without a traceback and exit with code 2.
    """
