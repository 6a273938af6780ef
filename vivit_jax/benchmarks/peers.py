"""Other programs' training steps of the model of a config, to be measured beside ours.

"huggingface" is the same model, with the same weights, as the bridge writes it for `transformers`:
forward, backward and AdamW in PyTorch, on the processor's cores or a GPU, there compiled and under
autocast where config.model.dtype is bfloat16. Any other is a Python file of the user's, which has

    rows(experiment, clips) -> list of Row        see benchmarks/rounds.py

so that a program which cannot be installed beside this one's tests can still be held against it.
"""

import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from vivit_jax.benchmarks.rounds import Row
from vivit_jax.data.pool import cores
from vivit_jax.errors import InputError
from vivit_jax.pretrained import huggingface
from vivit_jax.pretrained.found import Pretrained
from vivit_jax.pretrained.hf_folder import CONFIG
from vivit_jax.run import Run
from vivit_jax.trees import by_path


def rows(name: str, prepared: Run) -> Sequence[Row]:
    """Returns the rows of a peer.

    Raises:
      InputError: there is no such peer, or it has no such model.
    """
    if name in PEERS:
        return PEERS[name](prepared)
    if not name.endswith(".py") or not pathlib.Path(name).is_file():
        raise InputError(
            f"--peer={name}; expected {', '.join(PEERS)}, or a Python file with "
            "rows(experiment, clips)."
        )
    spec = importlib.util.spec_from_file_location("peer", name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rows(prepared.experiment, prepared.experiment.data.batch_size)


def hugging_face(prepared: Run) -> Sequence[Row]:
    """Returns Hugging Face's forward pass, gradient and step of the run's model."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise InputError(f"--peer=huggingface needs {error.name}: pip install it.") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(cores())
    experiment = prepared.experiment
    arrays = {path: np.asarray(value) for path, value in by_path(prepared.init().params).items()}
    known = Pretrained("this config", experiment, prepared.sources.label_maps, arrays, [])
    with tempfile.TemporaryDirectory() as folder:
        huggingface.write(known, pathlib.Path(folder))
        content = json.loads((pathlib.Path(folder) / CONFIG).read_text(encoding="utf-8"))
        kind = content["architectures"][0]
        model = getattr(transformers, kind).from_pretrained(folder).to(device).train()
    options = experiment.optim
    optimizer = torch.optim.AdamW(
        model.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    data, low = experiment.data, experiment.model.get("dtype") == "bfloat16"
    shape = (data.batch_size, data.frames, 3, data.image_size, data.image_size)
    inputs: dict[str, Any] = {"pixel_values": torch.rand(shape, device=device) * 2 - 1}
    if experiment.objective["name"] == "classify":
        inputs["labels"] = torch.zeros(data.batch_size, dtype=torch.long, device=device)
    else:
        inputs["bool_masked_pos"] = masked(prepared).to(device)
    compiled = torch.compile(model) if device == "cuda" else model

    def loss() -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            return compiled(**inputs).loss

    def forward() -> None:
        with torch.no_grad():
            loss().item()

    def gradient() -> None:
        value = loss()
        value.backward()
        optimizer.zero_grad()
        value.item()

    def step() -> None:
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        value.item()

    made: dict[str, Callable[[], None]] = {"forward": forward, "gradient": gradient, "step": step}
    return [Row(f"huggingface: {name}", run, data.batch_size) for name, run in made.items()]


def masked(prepared: Run) -> Any:
    """Returns which tokens of each clip VideoMAE hides, as a mask that PyTorch's takes."""
    import torch

    objective: Any = prepared.objective
    data = prepared.experiment.data
    axes = objective.encoder.grid(data.frames, data.image_size, data.image_size)
    drawn = objective.draw(jax.random.key(0), data.batch_size, axes)
    hidden = np.ones((data.batch_size, int(np.prod(axes))), bool)
    np.put_along_axis(hidden, np.asarray(drawn.visible), False, axis=1)
    return torch.from_numpy(hidden)


PEERS: dict[str, Callable[[Run], Sequence[Row]]] = {"huggingface": hugging_face}
