"""Explanations and restorations of real files: what is written, what is told, what is refused."""

import json
import sys

import av
import numpy as np
import pytest
import tiny
from data.conftest import write_video
from PIL import Image

from vivit_jax import explain, restore, terminal, train, watching
from vivit_jax.analysis import attribution
from vivit_jax.data import windows
from vivit_jax.data.geometry import Geometry
from vivit_jax.errors import InputError

FILES = ("explain.mp4", "explain.png", "timeline.png")
MASKED = {"name": "masked_pixels", "decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2}


@pytest.fixture(scope="module")
def masked(tiny_videos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("masked")
    given = {
        "data": {"root": str(tiny_videos), "labels": "none", "frames": 8},
        "model": {"tubelet": (2, 4, 4), "pool": "mean"},
        "objective": {**MASKED, "mask_ratio": 0.5, "mask": "random"},
        "train": {"steps": 1, "evaluate": False},
    }
    train.run(tiny.experiment(**given), workdir)
    return workdir


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Returns a video of 30 frames, 3 seconds."""
    frames = np.random.default_rng(0).integers(0, 256, (30, 12, 16, 3), np.uint8)
    large = frames.repeat(4, axis=1).repeat(4, axis=2)
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_video(path, 30, texture=large.__getitem__)


@pytest.fixture
def run(monkeypatch, capsys):
    def main(module, *arguments):
        """Returns the exit code, the answers, and what was said besides."""
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        code = terminal.run(module.main)
        said = capsys.readouterr()
        if "--json" in arguments:
            return code, [json.loads(line) for line in said.out.splitlines()], said.err
        return code, said.out, said.err

    return main


def frames_of(file):
    with av.open(str(file)) as movie:
        return [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]


def test_every_window_is_explained_and_every_frame_is_shown_once(
    run, tiny_run, video, tmp_path, monkeypatch
):
    monkeypatch.setattr(watching, "GROUP", 2)
    given = ["--checkpoint", tiny_run, video, "--out", tmp_path, "--evaluate", "--json"]
    code, (answer,), _ = run(explain, *given, "--hop", 0.3)
    assert code == 0
    starts = [*range(0, 27, 3), 26]
    assert answer["windows"] == len(answer["explained"]) == len(starts)
    for start, window in zip(starts, answer["explained"], strict=True):
        assert window["begin"] == pytest.approx(start / 10)
        assert window["end"] == pytest.approx((start + 4) / 10)
        assert window["class"] in ("a", "b")
        assert sum(window["slots"]) == pytest.approx(1, abs=1e-3)
    assert answer["method"] == "gradient_attention"
    assert answer["evaluation"]["windows"] == 8
    for name, file in zip(FILES, answer["files"], strict=True):
        assert file == str(tmp_path / f"long.{name}")
    film = frames_of(answer["files"][0])
    assert len(film) == 30
    assert film[0].shape == (112, 2 * 112 + 4, 3)
    with Image.open(answer["files"][1]) as strip:
        assert strip.size == (4 * 116 - 4, 2 * 116 - 4)


def test_a_table_names_the_asked_class_and_two_videos_of_one_name_have_files_of_their_own(
    run, tiny_run, video, tmp_path
):
    again = write_video(tmp_path / "long.mkv", 6, texture=None)
    given = ["--checkpoint", tiny_run, video, again, "--out", tmp_path / "out"]
    given += ["--class", "b", "--method", "integrated_gradients", "--steps", 2]
    code, out, _ = run(explain, *given)
    assert code == 0
    lines = [line for line in out.splitlines() if "the mean)" in line]
    assert len(lines) == 8 + 2
    assert all(line.endswith("  b") for line in lines)
    assert out.count("integrated gradients miss") == 2
    assert len({*(tmp_path / "out").iterdir()}) == 6


def test_an_encoder_without_classes_is_rolled_out(run, masked, video, tmp_path):
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--json"]
    code, (answer,), _ = run(explain, *given)
    assert (code, answer["method"]) == (0, "rollout")
    assert all("class" not in window for window in answer["explained"])
    assert len(answer["explained"]) == 4
    for options in (["--class", "a"], ["--evaluate"], ["--method", "gradient_attention"]):
        code, _, said = run(explain, *given, *options)
        assert code == 2
        assert "predicts nothing of labels" in said


@pytest.mark.parametrize(
    ("task", "share"),
    [(["interpolate"], 0.25), (["fill", "--region", "0.3,0.3,0.3,0.2"], 0.094), (["denoise"], 1)],
)
def test_a_film_shows_what_was_what_was_given_and_what_became_of_it(
    run, masked, video, tmp_path, task, share
):
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--json", "--evaluate"]
    code, (answer,), _ = run(restore, *given, "--task", *task)
    assert code == 0
    film = np.stack(frames_of(answer["file"])).astype(float)
    assert film.shape == (30, 112, 3 * 112 + 8, 3)
    was, seen, became = film[:, :, :112], film[:, :, 116:228], film[:, :, 232:]
    same = np.abs(was - seen).max(axis=-1) < 12
    if task[0] != "denoise":
        assert 1 - same.mean() == pytest.approx(share, abs=0.25)
        assert np.abs(was - became)[same].mean() < 4
    judged = answer["evaluation"]
    assert set(judged) == {"given", "plain", "model", "restored"}
    assert judged["restored"]["psnr"] > min(judged["plain"]["psnr"], judged["model"]["psnr"]) - 0.1


def test_a_table_says_whether_the_model_is_worth_it(run, masked, video, tmp_path):
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--task", "interpolate"]
    code, out, _ = run(restore, *given, "--evaluate")
    assert code == 0
    assert "linear in time" in out
    assert "the model alone is " in out
    code, out, _ = run(restore, *given)
    assert code == 0
    assert "PSNR" not in out


def test_a_mask_picture_is_filled_where_it_is_not_black(run, masked, video, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:16, 48:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--task", "fill", "--json"]
    code, (answer,), _ = run(restore, *given, "--mask", tmp_path / "mask.png")
    assert code == 0
    seen = np.stack(frames_of(answer["file"]))[:, :, 116:228].astype(int)
    assert (np.abs(seen[:, 2:26, 86:110] - 127) < 8).mean() > 0.95
    assert np.abs(seen[:, 40:] - 127).mean() > 20
    (tmp_path / "none.png").write_text("no picture")
    code, _, said = run(restore, *given, "--mask", tmp_path / "none.png")
    assert code == 2
    assert "none.png is no picture that can be read" in said


def test_in_a_mask_any_colour_is_filled_and_the_middle_square_counts(tmp_path):
    painted = np.zeros((32, 64, 3), np.uint8)
    painted[2, 17] = 200, 0, 0
    painted[31, 47] = 0, 0, 1
    painted[10:12, 26:28] = 30
    painted[:, 4:12] = 255  # beside the square
    Image.fromarray(painted).save(tmp_path / "mask.png")
    found = restore.read_mask(tmp_path / "mask.png", Geometry(16, test_crops=1))
    assert np.argwhere(found).tolist() == [[1, 0], [5, 5], [15, 15]]
    inner = restore.read_mask(tmp_path / "mask.png", Geometry(16, resize=32, test_crops=1))
    assert np.argwhere(inner).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_of_a_mask_what_is_transparent_is_not_filled_and_what_is_no_picture_is_refused(
    tmp_path, monkeypatch
):
    painted = np.full((32, 32, 4), 255, np.uint8)
    painted[:, 16:, 3] = 0
    Image.fromarray(painted).save(tmp_path / "mask.png")
    found = restore.read_mask(tmp_path / "mask.png", Geometry(16, test_crops=1))
    assert found.sum() == 128
    assert found[:, :8].all()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(InputError, match="is no picture that can be read"):
        restore.read_mask(tmp_path / "mask.png", Geometry(16, test_crops=1))


def test_windows_that_leave_frames_between_them_restore_no_video(run, masked, video, tmp_path):
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--task", "denoise", "--json"]
    code, (answer,), _ = run(restore, *given, "--hop", "1.5")
    assert code == 1
    assert "give a shorter --hop" in answer["error"]["message"]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_model_makes_of_a_window_that_is_not_finite_is_lost(
    run, tiny_run, video, tmp_path, monkeypatch, whole
):
    def spoilt(*arguments):
        attributed = attribute(*arguments)

        def of(clips):
            found = attributed(clips)
            tubelets = found.tubelets.copy()
            tubelets[: None if whole else 1] = np.nan
            return found._replace(tubelets=tubelets)

        return of

    attribute = attribution.attribute
    monkeypatch.setattr(attribution, "attribute", spoilt)
    given = ["--checkpoint", tiny_run, video, "--out", tmp_path, "--json"]
    code, (answer,), _ = run(explain, *given)
    assert code == 1
    if whole:
        assert answer["error"]["cause"] == "not_finite"
    else:
        assert answer["lost"][0]["cause"] == "not_finite"
        assert len(answer["explained"]) == answer["windows"] - 1


def test_what_is_exact_is_none_in_json_and_exact_in_words(run, masked, video, tmp_path):
    given = ["--checkpoint", masked, video, "--out", tmp_path, "--task", "denoise", "--evaluate"]
    code, (answer,), _ = run(restore, *given, "--noise", 0, "--json")
    assert code == 0
    assert answer["evaluation"]["given"]["psnr"] is None
    assert answer["evaluation"]["plain"]["psnr"] > 0
    assert f"  {'as given':24s}     exact   1.0000\n" in restore.table(answer)


@pytest.mark.parametrize(
    ("plain", "model", "restored", "said"),
    [
        (None, None, None, "plain (P) is exact: use the plain one here"),
        (30.0, None, None, "the model alone is exact, and plain (P) is not; what is restored is e"),
        (30.0, 20.0, 30.0, "is 10.00 dB worse than plain (P), and with it is +0.00 dB: use the p"),
        (30.0, 32.0, 33.0, "is 2.00 dB better than plain (P); what is restored is 3.00 dB better"),
    ],
)
def test_a_verdict_is_in_words_whatever_is_exact(plain, model, restored, said):
    psnr = {"plain": plain, "model": model, "restored": restored}
    found = restore.verdict({row: {"psnr": value} for row, value in psnr.items()}, "P")
    assert said in found


def test_where_the_first_windows_cannot_be_read_the_film_is_grey_or_the_video_an_error(
    run, masked, tmp_path, monkeypatch
):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    options = {"g": "4", "bf": "0"}
    spoilt = write_video(tmp_path / "a.mp4", 40, texture=noise.__getitem__, options=options)
    whole = write_video(tmp_path / "b.mp4", 12, texture=noise.__getitem__)
    data = bytearray(spoilt.read_bytes())
    first, end = len(data) // 40, len(data) // 12  # within the first frames
    data[first:end] = bytes(end - first)
    spoilt.write_bytes(data)
    gone = tmp_path / "gone.mp4"
    place, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    gone.write_bytes(data[:place] + bytes(end - place) + data[end:])
    given = ["--checkpoint", masked, "--task", "denoise", "--out", tmp_path / "out"]
    given += [spoilt, whole, gone]
    code, answers, _ = run(restore, *given, "--json")
    assert code == 1
    assert "gone.mp4 can be used: corrupt" in answers[2]["error"]["message"]
    assert answers[2]["error"]["cause"] == "corrupt"
    assert answers[1]["windows"] == 2
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"a.restored.mp4", "b.restored.mp4"}

    monkeypatch.setattr(watching, "GROUP", 1)
    monkeypatch.setattr(windows, "STRETCH", 8 * tiny.SIZE**2 * 3)
    code, answers, _ = run(restore, *given, "--json")
    assert code == 1
    assert answers[0]["lost"][0]["begin"] == 0
    assert 0 < answers[0]["lost"][0]["end"] < 4
    film = np.stack(frames_of(answers[0]["file"])).astype(int)
    assert film.shape == (40, 112, 3 * 112 + 8, 3)
    assert np.abs(film[0, :, :112] - 127).max() < 8
    assert np.abs(film[-1, :, :112] - 127).max() > 30


def test_a_video_that_was_cut_is_partial_and_one_without_pictures_is_an_error(
    run, tiny_run, masked, tmp_path
):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), np.uint8)
    cut = write_video(tmp_path / "cut.mkv", 60, texture=noise.__getitem__)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) * 3 // 5])
    empty, short = tmp_path / "empty.mp4", write_video(tmp_path / "short.mp4", 3)
    empty.write_text("no video")
    commands = ((explain, tiny_run, ()), (restore, masked, ("--task", "denoise")))
    for module, workdir, options in commands:
        given = ["--checkpoint", workdir, cut, empty, short, "--out", tmp_path / "out", "--json"]
        code, answers, _ = run(module, *given, *options)
        assert code == 1
        assert answers[0]["partial"]
        assert answers[0]["windows"] > 1
        assert "empty.mp4 cannot be read" in answers[1]["error"]["message"]
        assert "is longer than the video" in answers[2]["error"]["message"]
        written = {file.name.split(".")[0] for file in (tmp_path / "out").iterdir()}
        assert written == {"cut"}


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (
            explain,
            ["--class", "c"],
            "--class = 'c'; none of the 2 classes is called that",
        ),
        (
            explain,
            ["--steps", "0", "--method", "integrated_gradients"],
            "--steps is 0; expected at least 1",
        ),
        (explain, ["--steps", "3"], "--steps does nothing without --method integrated_gradients"),
        (explain, ["--removed", "mean"], "--removed does nothing without --evaluate"),
        (explain, ["--method", "guess"], "invalid choice: 'guess'"),
        (restore, ["--task", "denoise"], "which predicts no pixels: restoring needs one of"),
        (restore, ["--task", "fill"], "--task fill needs --region or --mask"),
        (restore, ["--task", "fill", "--region", "0.8,0,0.3,1"], "is not within the picture"),
        (restore, ["--task", "fill", "--region", "0,0,0,1"], "W and H above 0"),
        (restore, ["--task", "fill", "--region", "x"], "expected X,Y,W,H"),
        (restore, ["--task", "fill", "--drop", "2"], "--drop is for --task interpolate"),
        (restore, ["--task", "denoise", "--noise", "9"], "--noise adds noise, to --evaluate"),
    ],
)
def test_what_is_given_wrongly_is_refused(
    run, tiny_run, video, tmp_path, module, options, said, capsys
):
    try:
        code, _, found = run(module, "--checkpoint", tiny_run, video, "--out", tmp_path, *options)
    except SystemExit as end:
        code, found = end.code, capsys.readouterr().err
    assert code == 2
    assert said in found
