"""TensorFlow as a library of the host: tf.data and summary writers, never the accelerator."""

import os


def host_tensorflow():
    """Returns the tensorflow module, imported on first use, with every accelerator hidden from it.

    Call it before TensorFlow has run anything: it would take nearly all of a GPU's memory.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # unused here, and it says so at length
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
