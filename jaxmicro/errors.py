"""The one family of exceptions a user can cause.

Every message is a single line that names the value, what is allowed and what to do next.
"""


class JaxmicroError(Exception):
    """Base of all errors that the command line reports as one line instead of a traceback."""


class UsageError(JaxmicroError, ValueError):
    """A wrong option or argument; the command line exits with status 2."""


class DataError(JaxmicroError, ValueError):
    """Input that cannot be used as it is; the command line exits with status 1."""


class NumericalError(JaxmicroError, ArithmeticError):
    """A computation gave no usable answer for the whole input; exits with status 1."""
