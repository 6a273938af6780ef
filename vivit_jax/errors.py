"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    Its message stands alone: it names the file, line or field, what was found and what was
    expected, and what to do. The commands print it without a traceback and exit with code 2.
    """
