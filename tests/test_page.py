"""What a report's page says holds for what it says it of, and what it leaves out it tells."""

import io
import json
import pathlib
import re
import shutil
import subprocess
from types import SimpleNamespace

import av
import jax
import numpy as np
import pytest
from PIL import Image
from report_runs import bare, judged
from tiny import noise_video

import vivit_jax.page
from vivit_jax import config, drawing, metrics, recipe, report, train
from vivit_jax.data import catalog
from vivit_jax.data.container import DecodeError
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.data.frames import Frames
from vivit_jax.data.labels import keep_label_maps
from vivit_jax.page import attention, curves, health, summary, videos
from vivit_jax.page.curves import charts
from vivit_jax.page.judged import Head, Judged, intervals, read_judged
from vivit_jax.page.runs import read_runs

NODE = shutil.which("node") or ""
SMOOTHED = """
const [script, data] = JSON.parse(require("fs").readFileSync(0, "utf8")), made = [];
function node() {
  const self = {
    attributes: {}, dataset: {}, style: {}, classList: { toggle() {} },
    appendChild: x => x, append() {}, replaceChildren() {}, remove() {}, querySelector: () => null,
    setAttribute(name, value) { self.attributes[name] = value; },
    addEventListener(kind, act) { self[kind] = act; },
  };
  made.push(self);
  return self;
}
const slider = node(), figure = node();
figure.dataset.chart = 0;
globalThis.matchMedia = () => ({ matches: false });
globalThis.document = {
  body: node(), createElement: node, createElementNS: node,
  getElementById: id => ({ data: { textContent: data }, smoothing: slider })[id],
  querySelectorAll: kind => kind === "[data-chart]" ? [figure] : [],
};
eval(script);
made.length = 0;
slider.input({ target: { value: 0.9 } });
const [raw, curve] = ["raw run0", "curve run0"].map(
  kind => made.find(x => x.attributes.class === kind).attributes.d);
console.log(JSON.stringify([raw, curve]));
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Returns a run that was judged."""
    return judged(tmp_path_factory.mktemp("runs") / "one", videos=4)


def having(workdir: pathlib.Path, *results, lines=()):
    """Returns a run that has these results, and these lines of metrics."""
    bare(workdir)
    for name, records in ((metrics.RESULTS, results), (metrics.METRICS, lines)):
        (workdir / name).write_text("".join(map(metrics.as_line, records)))
    return read_runs([workdir])[0]


def data_of(page):
    """Returns what the script of a page draws from, as text."""
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found
    return found[1]


def test_training_videos_never_pass_for_held_out_ones(tmp_path):
    old, new = {"step": 20, "top1": 0.4}, {"step": 40, "split": "eval", "top1": 0.5}
    seen = {"step": 40, "split": "train", "top1": 0.99}
    run, learnt = having(tmp_path / "run", old, new, seen), having(tmp_path / "learnt", seen)
    page = report.make([run.workdir])
    (chart,) = json.loads(data_of(page))["charts"]
    assert chart["lines"] == [{"run": 0, "kind": "dots", "x": [20, 40], "y": [0.4, 0.5]}]
    assert "<b>50.0 %</b> top-1<" in page
    assert "<b>99.0 %</b> top-1 of training videos<" in report.make([learnt.workdir])
    other = having(tmp_path / "other", old)
    assert re.findall(r"<b>[^<]*</b>", summary.results([run, learnt], [{}, {}])) == []
    bold = re.findall(r"<b>[^<]*</b>", summary.results([other, run, learnt], [{}, {}, {}]))
    assert bold == ["<b>50.0 %</b>"]


def test_all_evaluations_of_the_newest_step_count(tmp_path):
    run = having(
        tmp_path / "run",
        {"step": 5, "split": "eval", "feature_std": 1.0},
        {"step": 9, "split": "eval", "reconstruction_psnr": 21.0, "knn_top1": 0.1},
        {"step": 9, "split": "train", "knn_top1": 0.9},
        {"step": 9, "split": "eval", "knn_top1": 0.2},
    )
    assert run.last == {"step": 9, "split": "eval", "reconstruction_psnr": 21.0, "knn_top1": 0.2}


def test_ends_of_intervals_are_no_results_of_their_own(tmp_path):
    lines = [
        {"step": step, "split": "eval", "top1_head_1": 0.5, "top1_low_head_1": 0.2}
        | {"top1_high_head_1": 0.9}
        for step in (1, 2)
    ]
    run = having(tmp_path / "run", *lines)
    assert [chart["key"] for chart in charts([run])[0]] == ["top1_head_1"]
    said = summary.results([run], [{}])
    assert "[20.0, 90.0]" in said
    assert "low" not in said


def test_of_several_runs_each_block_names_its_own(tmp_path, workdir):
    bare = having(tmp_path / "bare")
    page = report.make([workdir, bare.workdir], videos=0)
    (section,) = re.findall(r'<section id="classes">.*?</section>', page)
    assert f'run0"></i>{workdir.name}</h3>' in section


def test_a_run_that_was_judged_otherwise_says_so(tmp_path):
    found = having(tmp_path / "a", {"step": 3, "split": "eval", "retrieval_recall_at_1": 0.25})
    assert "<b>25.0 %</b>" in report.make([found.workdir])
    other = having(tmp_path / "b", {"step": 3, "split": "eval", "feature_std": 0.25})
    assert "Judged at step 3: see Results." in report.make([other.workdir])


def test_scores_that_are_no_numbers_say_nothing():
    targets = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    scores = np.full((4, 3), np.nan)
    scores[2] = 0.1, 0.8, 0.1
    head = Head(("a", "b", "c"), scores, targets, False)
    assert head.predicted.tolist() == [[False] * 3, [False] * 3, [False, True, False], [False] * 3]
    assert head.confusion.sum() == head.confusion[1, 1] == 1
    two = Judged(list("wxyz"), [head, head])
    assert intervals(two)["top1"].value == 0.25


def test_no_number_of_features_is_the_best(tmp_path):
    pair = [
        having(tmp_path / name, {"step": 1, "top1": x, "feature_std": x, "feature_top3": x})
        for name, x in (("a", 0.1), ("b", 0.2))
    ]
    assert re.findall(r"<b>[^<]*</b>", summary.results(pair, [{}, {}])) == ["<b>20.0 %</b>"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB\nmore"), "RESOURCE_EXHAUSTED: 9 GB"),
    ],
)
def test_films_stay_whatever_ends_the_look_at_the_model(error, said, workdir):
    def attend(run, seen, large):
        raise error

    (run,) = read_runs([workdir])
    found = read_judged(run)
    assert found
    films = videos.pictures(run, found, 1, 10**6, attend)
    assert films.note.startswith("Where the model looked is not shown: ")
    assert said in films.note
    assert "more" not in films.note
    assert films.best[0].film
    assert not films.attended


class Grey:
    """A video that is stored as grey pictures; a sources.Stored."""

    media = "jpeg"

    def __init__(self, brightness: int):
        self._brightness = brightness

    def read(self) -> Frames:
        """Returns its frames."""
        if self._brightness < 0:
            raise DecodeError("corrupt", "cut")
        out = io.BytesIO()
        Image.new("RGB", (48, 32), (self._brightness,) * 3).save(out, "JPEG", quality=95)
        return Frames([out.getvalue()] * 12, np.arange(12) / 10, 1.2, 1.2, 10.0)


@pytest.mark.parametrize("spoilt", [False, True])
def test_what_is_stored_as_pictures_is_shown_too(spoilt, tmp_path, monkeypatch):
    (run,) = read_runs([judged(tmp_path / "run", videos=4, data={"dataset": "pictures"})])
    found = read_judged(run)
    assert found
    grey = {identity: 60 * i for i, identity in enumerate(found.ids)}
    stored = [Example(one, Grey(-1 if spoilt else grey[one]), 0) for one in grey]
    sources = Sources(Listed([]), Listed(stored), run.label_maps)
    monkeypatch.setitem(catalog.CATALOG, "pictures", catalog.Dataset(stored=lambda _: sources))
    films = videos.pictures(run, found, 1, 10**6, lambda run, seen, large: 255 - large)
    assert films.attended != spoilt
    assert films.note == ""
    for film in (*films.best, *films.worst):
        assert film.why == "corrupt: cut" * spoilt
        if spoilt:
            continue
        with av.open(io.BytesIO(film.film)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        left, right = picture[:, : videos.SIDE].mean(), picture[:, -videos.SIDE :].mean()
        assert left == pytest.approx(grey[film.id], abs=4)
        assert right == pytest.approx(255 - grey[film.id], abs=4)


@pytest.mark.parametrize(
    ("name", "method"),
    [("video_transformer", "gradient_attention"), ("frame_model", "integrated_gradients")],
)
def test_a_model_is_looked_at_by_what_it_allows(name, method, tmp_path, monkeypatch):
    run = having(tmp_path / "run", {"step": 3, "top1": 0.5})
    (run.workdir / "checkpoints/3").mkdir(parents=True)
    asked = []

    def attribute(observer, method):
        asked.append(method)
        return lambda clips: SimpleNamespace(tubelets=np.ones((len(clips), 2, 2, 2)))

    observer = SimpleNamespace(experiment=SimpleNamespace(model={"name": name}))
    monkeypatch.setattr(attention, "Observer", lambda _: observer)
    monkeypatch.setattr(attention.attribution, "attribute", attribute)
    clips = np.zeros((1, 4, 16, 16, 3), np.uint8)
    assert attention.attend(run, clips, clips).shape == clips.shape
    assert asked == [method]


@pytest.mark.slow
def test_a_model_of_frames_that_was_trained_shows_where_it_looked(tmp_path):
    for i in range(8):
        noise_video(tmp_path / f"videos/{'ab'[i % 2]}/{i}.mp4", i)
    small = {"frames": 4, "stride": 1, "image_size": 16, "batch_size": 8, "workers": 1}
    whole = recipe.experiment(
        data={"root": str(tmp_path / "videos"), "holdout": 0.5, **small},
        model={"name": "frame_model", "frame": "vit", "size": "mu", "patch": 8, "time": "mean"},
        objective={"name": "classify"},
        train={"steps": 1},
        eval={"clips": 1, "crops": 1},
    )
    train.run(config.parse(whole.to_dict()), tmp_path / "run")
    (run,) = read_runs([tmp_path / "run"])
    found = read_judged(run)
    assert found
    films = videos.pictures(run, found, 1, 10**6, attention.attend)
    assert (films.note, films.attended) == ("", True)


def test_means_are_those_of_a_curve_however_it_spikes():
    values = np.ones(25_000)
    values[::50] = 100.0
    values[:50] = np.nan
    steps, found = curves.means(range(25_000), values.tolist())
    assert len(steps) == len(found) == 500
    assert steps == sorted(set(steps))
    assert found[0] is None
    np.testing.assert_allclose([x for x in found if x is not None], 2.98)
    assert np.mean([x for x in curves.thinned(range(25_000), values.tolist())[1] if x]) > 40


@pytest.mark.skipif(not NODE, reason="no Node on this machine")
def test_smoothing_follows_the_mean_of_a_long_curve(tmp_path):
    spiky = [{"step": i, "loss": 100.0 if i % 6 == 0 else 1.0} for i in range(3000)]
    page = report.make([having(tmp_path / "run", lines=spiky).workdir])
    script = (pathlib.Path(vivit_jax.page.__path__[0]) / "report.js").read_text()
    given = json.dumps([script, data_of(page)])
    command = [NODE, "-e", SMOOTHED]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    heights = [[float(x) for x in re.findall(r" ([\d.]+)", d)] for d in json.loads(done.stdout)]
    raw, curve = heights
    low, high = max(raw), min(raw)  # of 1 and of 100: y points down
    assert len(curve) == 500
    np.testing.assert_allclose(curve, low + (high - low) * (17.5 - 1) / 99, atol=0.2)


def test_films_of_each_kind_stand_below_what_they_show(tmp_path):
    run = having(tmp_path / "run", {"step": 3, "split": "eval", "feature_std": 1.0})
    folder = run.workdir / "evaluation/00000003-eval"
    folder.mkdir(parents=True)
    for name in ("reconstruction_0", "reconstruction_12", "feature_pca_7"):
        (folder / f"{name}.mp4").write_bytes(b"film")
    filled = report.make([run.workdir]).split('id="filled"')[1].split("</section>")[0]
    told = re.findall(r"from left to right|what was predicted|in three colours|video \d+", filled)
    first = ["from left to right", "what was predicted", "video 0", "video 12"]
    assert told == [*first, "from left to right", "in three colours", "video 7"]


def test_what_is_left_out_is_counted(tmp_path):
    many = {f"value_{i:02d}": 1.0 for i in range(30)}
    names = [f"class {i}" for i in range(101)]
    result = {"step": 2, "split": "eval", "top1": 1.0}
    run = having(tmp_path / "run", result, lines=[{"step": 1, **many}])
    keep_label_maps(run.workdir, (names,))
    labels = np.arange(6)[:, None]
    scores = np.where(labels == np.arange(101), 0.5, 0.005).astype(np.float32)
    folder = run.workdir / "evaluation/00000002-eval"
    drawing.write_scores(folder, list("abcdef"), [names], scores, labels, False)
    bad = {"cause": "truncated", "message": "cut", "split": "train"}
    lines = (metrics.as_line({"id": f"bad {i}", **bad}) for i in range(302))
    (run.workdir / "bad_videos.jsonl").write_text("".join(lines))
    page = report.make([run.workdir], videos=0)
    assert page.count("data-chart=") == 24
    assert "6 curves more are in metrics.jsonl and results.jsonl" in page
    assert "The matrix of 101 classes is not drawn" in page
    assert page.count("<td>bad ") == 300
    assert "and 2 videos more" in page


def test_all_videos_could_be_read_only_where_some_were_and_it_is_known(tmp_path):
    good = "Every video that was asked for could be read."
    run = having(tmp_path / "new")
    assert health.health(run, None) == '<p class="missing">No video was read yet.</p>'
    run = having(tmp_path / "begun", lines=[{"step": 1, "loss": 1.0}])
    assert good in health.health(run, None)
    (run.workdir / "bad_videos.jsonl").write_bytes(b"\xff\xfe")
    (run,) = read_runs([run.workdir])
    told = health.health(run, None)
    assert good not in told
    assert "bad_videos.jsonl is spoilt" in told
