"""The one exception for a user's mistake."""


class Mistake(Exception):
    """A user's mistake, told in one sentence: what is wrong, what was expected, how to mend it.

    The command line prints the sentence without a stack trace and ends with status 2.
    """
