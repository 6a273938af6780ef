"""The exceptions that more than one part of the project knows."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    Its message stands alone: it names the file, line or field, what was found and what was
    expected, and what to do. The commands print it without a traceback and exit with code 2.
    """


class Damaged(InputError):
    """A checkpoint is not what was saved; the message names the step, and the arrays."""


class Fault(RuntimeError):
    """What ended a command, where nothing given was wrong and no line of ours is to blame.

    Its message stands alone, and says what to do. The commands print it without a traceback and
    exit with code 1.
    """


class NotFinite(Fault):
    """A state holds numbers that are not finite, and so is not saved; the message names where."""


class NotSaved(Fault):
    """A checkpoint did not get onto the disk; the message says what it wanted and what there is."""
