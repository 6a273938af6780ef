"""Files of PyTorch's, read without it: what torch.save wrote, and what nobody should run."""

import argparse
import collections
import io
import mmap
import pickle
import zipfile

import numpy as np
import pytest

from vivit_jax.errors import InputError
from vivit_jax.pretrained import huggingface
from vivit_jax.pretrained.torch_file import MAGIC, PROTOCOL, read_torch

FORMS = ("zip", "legacy")


def saved(content, file, form, **options):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    torch.save(content, file, _use_new_zipfile_serialization=form == "zip", **options)
    return file


def packed(pickled, file, form):
    """A file whose pickle is given, byte by byte."""
    if form == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/version", "3\n")
        return file
    head = [pickle.dumps(x, 2) for x in (MAGIC, PROTOCOL, {"little_endian": True})]
    file.write_bytes(b"".join([*head, pickled, pickle.dumps([], 2)]))
    return file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_saved(form, protocol, tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    base = torch.arange(24.0).reshape(2, 3, 4)
    kinds = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    kinds += ("complex64", "complex128")
    content = {
        "model": model.state_dict(),
        "parameter": model[0].weight,
        "views": [base, base.transpose(0, 2), base[1, 1:, ::2], base[0, 0, 3]],
        "kinds": {kind: torch.arange(5).to(getattr(torch, kind)) for kind in kinds},
        "half": torch.randn(7).bfloat16(),
        "empty": torch.zeros(0, 3),
        "args": argparse.Namespace(lr=1e-3, model="vit", betas=(0.9, 0.95), seen={1, 2}),
        "epoch": 7,
        "shape": base.shape,
        "milestones": collections.Counter({3: 1}),
        "best": np.float64(71.5),
        "nothing": [None, True, -1, 2**70, "ö", b"bytes", (), frozenset({"a"})],
    }
    found = read_torch(saved(content, tmp_path / "x.pth", form, pickle_protocol=protocol))

    assert list(found) == list(content)
    assert list(found["model"]) == list(content["model"])
    for name, value in content["model"].items():
        np.testing.assert_array_equal(found["model"][name], value.numpy())
    np.testing.assert_array_equal(found["parameter"], content["parameter"].numpy(force=True))
    for ours, theirs in zip(found["views"], content["views"], strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    for kind in kinds:
        assert found["kinds"][kind].dtype == kind
        np.testing.assert_array_equal(found["kinds"][kind], content["kinds"][kind].numpy())
    assert found["half"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(found["half"].astype(np.float32), content["half"].float().numpy())
    assert found["empty"].shape == (0, 3)
    assert found["args"] == vars(content["args"])
    for name in ("epoch", "shape", "milestones", "best", "nothing"):
        assert found[name] == content[name]


@pytest.mark.parametrize("form", FORMS)
def test_arrays_are_views_of_the_file(form, tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    found = read_torch(saved({"a": torch.ones(4, 4).T}, tmp_path / "x.pth", form))
    base = found["a"]
    while getattr(base, "base", None) is not None:
        base = base.base
    assert type(base) is mmap.mmap
    assert not found["a"].flags.writeable


@pytest.mark.parametrize("form", FORMS)
def test_truncated_files_are_refused(form, tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    file = saved({"a": torch.ones(100, 10), "b": torch.ones(10)}, tmp_path / "x.pth", form)
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) - 1000, len(content) // 2, 40, 5, 0):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match=f"^{file} (is|ends)"):
            read_torch(file)


def test_what_is_no_file_of_pytorchs_is_refused(tmp_path):
    file = tmp_path / "x.pth"
    for content, why in (
        (b"hello, world\n", "is damaged, or no file of PyTorch's"),
        (pickle.dumps({"a": 1}), "is no file of PyTorch's"),
        (pickle.dumps(MAGIC) + pickle.dumps(1), "is of a form of PyTorch's that is not known"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=why):
            read_torch(file)
    np.savez(tmp_path / "y.npz", a=np.ones(3))
    with pytest.raises(InputError, match="a zip archive, but none of PyTorch's"):
        read_torch(tmp_path / "y.npz")
    with pytest.raises(InputError, match="cannot be read"):
        read_torch(tmp_path / "absent.pth")


class Evil:
    """Runs a command when it is unpickled in Python's way."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def hostile(canary):
    """Pickles that would make the canary, and what they ask for, by how they do it."""
    command = f"touch {canary}"
    text = command.encode()
    put = b"X" + len(text).to_bytes(4, "little") + text
    namespace = b"\x80\x02cargparse\nNamespace\n"
    return {
        "REDUCE": ("system", pickle.dumps(Evil(command), 2)),
        "REDUCE, protocol 0": ("system", pickle.dumps(Evil(command), 0)),
        "REDUCE, protocol 4": ("system", pickle.dumps({"model": [Evil(command)]}, 4)),
        "INST": ("os.system", b"(S'" + text + b"'\nios\nsystem\n."),
        "OBJ": ("os.system", b"(cos\nsystem\n" + put + b"o."),
        "NEWOBJ": ("subprocess.Popen", b"\x80\x02csubprocess\nPopen\n(" + put + b"t\x81."),
        "NEWOBJ_EX": ("subprocess.Popen", b"\x80\x04csubprocess\nPopen\n(" + put + b"t}\x92."),
        "BUILD": ("os.system", namespace + b")\x81}U\x0c__setstate__cos\nsystem\nsb" + put + b"b."),
        "BUILD of a class": ("eval", namespace + b"c__builtin__\neval\nb."),
        "EXT1": ("EXT1", b"\x80\x02\x82\x01(" + put + b"tR."),
    }


@pytest.mark.parametrize("form", [*FORMS, "bare"])
@pytest.mark.parametrize("how", hostile(""))
def test_a_hostile_pickle_is_refused_and_its_canary_is_not_there(how, form, tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "x.pth"
    name, pickled = hostile(canary)[how]
    if form == "bare":
        file.write_bytes(pickled)
        # Where a file of PyTorch's has a number, nothing at all may be asked for.
        name = "argparse.Namespace" if how.startswith("BUILD") else name
    else:
        packed(pickled, file, form)
    with pytest.raises(InputError, match=f"asks for .*{name}.* refused"):
        read_torch(file)
    assert not canary.exists()


def test_the_canary_is_made_where_python_reads_the_pickle(tmp_path):
    """Or else the test above would prove nothing."""
    pickle.loads(hostile(tmp_path / "canary")["REDUCE"][1])
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", FORMS)
def test_no_depth_of_nesting_breaks_the_reader(form, tmp_path):
    deep = 200_000
    found = read_torch(
        packed(b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b".", tmp_path / "x", form)
    )
    assert found == [found[0]]
    key = b"\x80\x02})" + b"\x85" * deep + b"Ns."  # hashing that would end the process
    with pytest.raises(InputError, match="tuple as a key"):
        read_torch(packed(key, tmp_path / "y", form))


def test_numbers_beyond_a_storage_are_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    stream = io.BytesIO()
    torch.save(torch.zeros(6), stream)
    with zipfile.ZipFile(stream) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(parts)).split("/")[0]
    pickled = parts[f"{root}/data.pkl"]
    assert pickled.count(b"K\x06\x85") == 1
    for shape in (b"K\x07\x85", b"K\x00K\x07K\x07\x86"):
        parts[f"{root}/data.pkl"] = pickled.replace(b"K\x06\x85", shape)
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        with pytest.raises(InputError, match="is damaged"):
            read_torch(tmp_path / "x.pth")


def test_a_folder_of_hugging_faces_may_hold_pytorch_model_bin(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    saved({"a": torch.ones(2)}, tmp_path / huggingface.TORCH_WEIGHTS, "zip")
    np.testing.assert_array_equal(huggingface.read_weights(tmp_path)["a"], np.ones(2))
