"""Names as people read them: of files, folders and classes, which need not be text."""

import html


def shown(name: str) -> str:
    """Returns a name with a mark wherever it is no text, as os.fsdecode tells that."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def escaped(name: str) -> str:
    """Returns a name as it stands in HTML, between tags or between quotes."""
    return html.escape(shown(name), quote=True)
