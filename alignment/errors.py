"""The one error class that a user's mistake becomes."""


class UserError(Exception):
    """A mistake that the user can mend, told in one sentence: what is wrong, where, and what to do.

    The command line prints the sentence and exits with code 2. Every other exception is a bug of
    alignkit and keeps its traceback.
    """
