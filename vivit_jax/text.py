"""Names as people read them, which need not be text, and letters that tell contents apart."""

import hashlib
import html
import json
from typing import Any


def shown(name: str) -> str:
    """Returns a name with a mark wherever it is no text, as os.fsdecode tells that."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def escaped(name: str) -> str:
    """Returns a name as it stands in HTML, between tags or between quotes."""
    return html.escape(shown(name), quote=True)


def letters_of(told: Any, size: int = 16) -> str:
    """Returns twice so many letters, which change with anything in a JSON."""
    text = json.dumps(told, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
