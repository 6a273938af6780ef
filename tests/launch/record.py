"""Runs vivit_jax.main, and writes down the examples that every step has seen."""

import json
import os
import pathlib
import sys

import jax
import numpy as np

from vivit_jax import loop, main
from vivit_jax.terminal import run


class Recording(loop.StepLog):
    def add(self, step, info, *rest):
        super().add(step, info, *rest)
        file = pathlib.Path(os.environ["RECORD"]) / f"{jax.process_index()}.jsonl"
        source = self._run.sources.train
        ids = [source.example(int(i)).id for i in np.asarray(info.index)]
        with file.open("a") as lines:
            lines.write(json.dumps([step, ids]) + "\n")


if __name__ == "__main__":  # the decoding processes import this file too
    loop.StepLog = Recording
    sys.exit(run(main.main))
