"""Other programs' training steps of the model of a config, to be measured beside ours.

"huggingface" is the same model, with the same weights, as the bridge writes it for `transformers`:
forward, backward and update in PyTorch, on the processor's cores or a GPU, where it is compiled;
under autocast where config.model.dtype is bfloat16. Any other is a Python file of the user's, which
has

    rows(run) -> list of Row        see run.Run, benchmarks/rounds.py and benchmarks/parts.py

so that a program which cannot be installed beside this one's tests can still be held against it.
tests/benchmarks/peers has three: Scenic's ViViT and AV-MAE, and VideoMAE's own.
"""

import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from vivit_jax.benchmarks.parts import in_torch, torch_device
from vivit_jax.benchmarks.rounds import Row
from vivit_jax.errors import InputError
from vivit_jax.pretrained import huggingface
from vivit_jax.pretrained.found import Pretrained
from vivit_jax.pretrained.hf_folder import CONFIG
from vivit_jax.run import Run
from vivit_jax.trees import by_path


def rows(name: str, prepared: Run) -> Sequence[Row]:
    """Returns the rows of a peer.

    Raises:
      InputError: there is no such peer, it cannot be imported, or it has no such model.
    """
    if name in PEERS:
        return PEERS[name](prepared)
    if not name.endswith(".py") or not pathlib.Path(name).is_file():
        raise InputError(
            f"--peer={name}; expected {', '.join(PEERS)}, or a Python file with rows(run)."
        )
    spec = importlib.util.spec_from_file_location("peer", name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.rows(prepared)
    except ImportError as error:
        raise InputError(f"--peer={name}: {error}. Its docstring tells what it needs.") from error


def hugging_face(prepared: Run) -> Sequence[Row]:
    """Returns Hugging Face's forward pass, gradient and step of the run's model."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise InputError(f"--peer=huggingface needs {error.name}: pip install it.") from error
    device, experiment = torch_device(), prepared.experiment
    arrays = {path: np.asarray(value) for path, value in by_path(prepared.init().params).items()}
    known = Pretrained("this config", experiment, prepared.sources.label_maps, arrays, [])
    with tempfile.TemporaryDirectory() as folder:
        huggingface.write(known, pathlib.Path(folder))
        content = json.loads((pathlib.Path(folder) / CONFIG).read_text(encoding="utf-8"))
        kind = content["architectures"][0]
        model = getattr(transformers, kind).from_pretrained(folder).to(device)
    data = experiment.data
    shape = (data.batch_size, data.frames, 3, data.image_size, data.image_size)
    inputs: dict[str, Any] = {"pixel_values": torch.rand(shape, device=device) * 2 - 1}
    if experiment.objective["name"] == "classify":
        inputs["labels"] = torch.zeros(data.batch_size, dtype=torch.long, device=device)
    else:
        inputs["bool_masked_pos"] = hidden(prepared).to(device)
    compiled = torch.compile(model) if device == "cuda" else model
    return in_torch("huggingface", model, lambda: compiled(**inputs).loss, prepared)


def hidden(prepared: Run) -> Any:
    """Returns which tokens of each clip are hidden, as the mask that VideoMAE in PyTorch takes."""
    import torch

    objective: Any = prepared.objective
    data = prepared.experiment.data
    axes = objective.encoder.grid(data.frames, data.image_size, data.image_size)
    drawn = objective.draw(jax.random.key(0), data.batch_size, axes)
    unseen = np.ones((data.batch_size, int(np.prod(axes))), bool)
    np.put_along_axis(unseen, np.asarray(drawn.visible), False, axis=1)
    return torch.from_numpy(unseen)


PEERS: dict[str, Callable[[Run], Sequence[Row]]] = {"huggingface": hugging_face}
