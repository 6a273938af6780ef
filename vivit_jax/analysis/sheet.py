"""A contact sheet: pictures in rows and columns, with some words under each."""

import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vivit_jax.data.pool import DecodeFailure, DecodePool, cores
from vivit_jax.data.stretches import pictures
from vivit_jax.files import replacing
from vivit_jax.text import shown

PICTURE = 180  # pixels of a picture's short side
_WIDE = 320  # pixels of a cell
_GAP = 10
_LINE = 17  # pixels from one line of words to the next
_SIZE = 13  # pixels of letters
_INK, _PALE = "#222222", "#e8e8e8"


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Cell(NamedTuple):
    """A picture and its words.

    Attributes:
      picture: a JPEG; b"" where there is none.
      lines: what stands under it.
    """

    picture: bytes
    lines: Sequence[str]


def first_frames(moments: Sequence[tuple[str, float]]) -> list[bytes]:
    """Returns a JPEG for each (video, second); b"" where it cannot be shown any more."""
    seconds: dict[str, set[float]] = {}
    for video, second in moments:
        seconds.setdefault(video, set()).add(second)
    found: dict[tuple[str, float], bytes] = {}
    with DecodePool(min(len(seconds), cores()), 1) as pool:
        for video, some in seconds.items():
            made = pool.call(pictures, video, sorted(some), PICTURE)
            if not isinstance(made, DecodeFailure):
                found |= {(video, s): x for s, x in zip(sorted(some), made, strict=True)}
    return [found.get(moment, b"") for moment in moments]


def write_sheet(file: pathlib.Path, title: str, cells: Sequence[Cell]) -> None:
    """Writes a PNG of the cells, in reading order, about as wide as high."""
    columns = min(len(cells), max(2, round(float(np.sqrt(len(cells) * 1.2)))))
    rows = -(-len(cells) // columns)
    words = max(len(cell.lines) for cell in cells) * _LINE
    step = _WIDE + _GAP, PICTURE + words + 2 * _GAP
    size = columns * step[0] + _GAP, rows * step[1] + 3 * _GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_SIZE)
    draw.text((_GAP, _GAP), _fitted(draw, title, font, size[0] - 2 * _GAP), _INK, font)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        left, top = _GAP + column * step[0], 3 * _GAP + row * step[1]
        box = (left, top, left + _WIDE, top + PICTURE)
        draw.rectangle(box, fill=_PALE)
        if cell.picture:
            _paste(sheet, box, cell.picture)
        for line, text in enumerate(cell.lines):
            place = (left, box[3] + 3 + line * _LINE)
            draw.text(place, _fitted(draw, text, font, _WIDE), _INK, font)
    with replacing(file) as new:
        sheet.save(new, "PNG")


def _paste(sheet: Image.Image, box: tuple[int, int, int, int], jpeg: bytes) -> None:
    """Puts a picture into the middle of a box, as large as it fits."""
    picture = Image.open(io.BytesIO(jpeg))
    wide, high = box[2] - box[0], box[3] - box[1]
    scale = min(wide / picture.width, high / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.resize(
        size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    )
    sheet.paste(small, (box[0] + (wide - size[0]) // 2, box[1] + (high - size[1]) // 2))


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """Returns a line that is no wider; of a longer one the end, which tells files apart."""
    text = line = shown(text)
    while draw.textlength(line, font) > width and len(text) > 1:
        text = text[1:]
        line = "…" + text
    return line
