"""The pixels of JPEG frames, decoded in TensorFlow's C++ alone: no process, no Python a pixel.

Only the wanted part is turned into pixels, all frames of a clip go through one resize, and every
crop and every repeat of a clip is cut out of one decode. Pictures much larger than what is wanted
shrink while they are decoded, which is cheaper than decoding them whole and smoother than leaving
pixels out.
"""

from typing import Any

from vivit_jax.data.frames import RATIOS, Wanted
from vivit_jax.host_tensorflow import host_tensorflow


def decode(wanted: Wanted, shape: tuple[int, int, int, int, int]) -> Any:
    """Returns the views of a video: a uint8 tensor [V T H W 3], clip by clip, then crop by crop.

    Args:
      wanted: its parts as tensors.
      shape: of what comes back.
    """
    tf = host_tensorflow()
    jpegs, ratio, window, boxes = wanted
    views, frames, size = shape[:3]
    crops = boxes.shape[0]
    clips = views // crops

    def pictures(shrink: int):
        decoded = [
            tf.io.decode_and_crop_jpeg(
                jpeg,
                window,
                channels=3,
                ratio=shrink,
                try_recover_truncated=True,  # choose() has refused what is cut: no error in here
            )
            for jpeg in tf.unstack(jpegs, clips * frames)
        ]
        return tf.stack(decoded)

    shown = tf.switch_case(ratio, [lambda r=r: pictures(r) for r in RATIOS])
    cut = []
    for top, left, rows, columns in (tf.unstack(box) for box in tf.unstack(boxes, crops)):
        part = shown[:, top : top + rows, left : left + columns] if crops > 1 else shown
        resized = tf.image.resize(part, (size, size), "bilinear")
        pixels = tf.cast(resized + 0.5, tf.uint8)  # the cast rounds down
        cut.append(tf.reshape(pixels, (clips, frames, size, size, 3)))
    return tf.reshape(tf.stack(cut, axis=1), shape)
