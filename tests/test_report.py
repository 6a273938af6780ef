"""The page of runs says what their files say, whatever is missing, and reaches for nothing."""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess

import av
import numpy as np
import pytest
from report_runs import CLASSES, EVIL, bare, judged
from tiny import experiment, noise_video

from vivit_jax import metrics, report, train
from vivit_jax.errors import InputError
from vivit_jax.measures import recognition
from vivit_jax.page import videos
from vivit_jax.page.attention import attend
from vivit_jax.page.curves import thinned
from vivit_jax.page.judged import intervals, read_judged
from vivit_jax.page.runs import flat, read_runs

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
LINKS = {"src", "href", "action", "data", "poster", "srcset"}


class Parsed(html.parser.HTMLParser):
    """What a page holds: its text, its tags with what they have, and its scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text, self.inside = [], [], []
        self.scripts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, about = self.inside[-1] if self.inside else ("", {})
        if tag in ("script", "style"):
            self.scripts[about.get("id", tag)] = data
        else:
            self.text.append(data)

    def handle_endtag(self, tag):
        self.inside = []

    def of(self, tag):
        return [about for name, about in self.tags if name == tag]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns two runs, of which the second learns faster and could not read a video."""
    folder = tmp_path_factory.mktemp("runs")
    one = judged(folder / "one")
    two = judged(folder / "a & <b>two", 1, optim={"learning_rate": 0.25})
    bad = {"id": EVIL, "cause": "truncated", "message": "cut <off>", "split": "train"}
    metrics.append(two / "bad_videos.jsonl", bad)
    metrics.append(two / metrics.SKIPPED, {"step": 7, "why": "spike", "examples": [EVIL]})
    metrics.append(two / metrics.ROLLBACKS, {"step": 9, "to": 4, "reason": "50 in a row"})
    return one, two


@pytest.fixture(scope="module")
def page(runs):
    """Returns the page of both, with two films of each kind."""
    return report.make(list(runs), videos=2, attention=False)


@pytest.fixture(scope="module")
def parsed(page):
    return Parsed(page)


def test_nothing_is_linked_and_the_policy_knows_only_what_is_inside(page, parsed):
    for _, about in parsed.tags:
        for name in LINKS & about.keys():
            assert about[name].startswith("data:")
        assert not any(name.startswith("on") or name == "style" for name in about)
    policy = next(m["content"] for m in parsed.of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    for kind in ("script", "style"):
        digest = hashlib.sha256(parsed.scripts[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_names_are_text_whatever_they_hold(page, parsed):
    assert EVIL not in page
    assert len(parsed.of("script")) == 2
    text = "".join(parsed.text)
    assert {EVIL, CLASSES[1], "no text \ufffd", "a & <b>two"} <= set(parsed.text)
    assert "val/class 1/<b>1</b>.mp4" in text
    data = json.loads(parsed.scripts["data"])
    assert data["matrices"][0][0]["names"] == [EVIL, CLASSES[1], "no text \ufffd"]


def test_curves_are_the_lines_of_the_files(runs, parsed):
    data = json.loads(parsed.scripts["data"])
    charts = {chart["key"]: chart["lines"] for chart in data["charts"]}
    assert list(charts)[:4] == ["loss", "top1", "learning_rate", "grad_norm"]
    assert "coverage" not in charts
    for i, run in enumerate(runs):
        lines = metrics.read_lines(run / metrics.METRICS)
        (line,) = [line for line in charts["loss"] if line["run"] == i]
        assert line["x"] == [record["step"] for record in lines]
        np.testing.assert_allclose(line["y"], [record["loss"] for record in lines], rtol=1e-5)
        (dots,) = [line for line in charts["top1"] if line["run"] == i]
        assert (dots["kind"], dots["x"]) == ("dots", [20, 40])


def test_only_options_that_differ_are_compared(runs, page):
    differing = page.split('id="config"')[1].split("<details>")[0]
    assert "optim.learning_rate" in differing
    assert ">0.25<" in differing
    first, second = (flat(run.settings) for run in read_runs(list(runs)))
    same = [name for name in first if first[name] == second[name]]
    assert len(same) > 100
    assert not [name for name in same if f">{name}<" in differing]


def test_what_went_wrong_is_said(page):
    assert "truncated" in page
    assert "cut &lt;off&gt;" in page
    assert "Updates left out: 1 spike" in page
    assert "At step 9 it went back to step 4: 50 in a row" in page
    assert page.count("it never went back") == 1


def test_results_and_their_intervals_are_the_scores(runs):
    (run,) = read_runs([runs[0]])
    found = read_judged(run)
    assert found
    (head,) = found.heads
    assert recognition.top_k(head.scores, head.labels, 1) == run.last["top1"]
    ends = intervals(found)
    assert ends["top1"].low < ends["top1"].value == run.last["top1"] < ends["top1"].high
    each = recognition.per_class(head.confusion)
    for name, value in recognition.macro(each)._asdict().items():
        assert ends[name].value == pytest.approx(value)
        assert ends[name].low <= value <= ends[name].high


@pytest.mark.parametrize("kind", ["multi", "heads"])
def test_other_kinds_of_labels_have_a_page_too(kind, tmp_path):
    workdir = judged(tmp_path / kind, kind=kind, videos=8)
    (run,) = read_runs([workdir])
    found = read_judged(run)
    assert found
    assert len(found.heads) == {"multi": 1, "heads": 2}[kind]
    page = report.make([workdir], videos=0)
    assert page.count("<h4>Head 1</h4>") == 3 * (kind == "heads")
    if kind == "multi":
        head = found.heads[0]
        precisions = recognition.average_precision(head.scores, head.targets)
        expected = recognition.mean_average_precision(precisions)
        assert intervals(found)["mean_average_precision"].value == pytest.approx(expected)


def test_the_best_videos_are_the_surest_of_the_truth_and_none_is_both(runs):
    (run,) = read_runs([runs[0]])
    found = read_judged(run)
    assert found
    (head,) = found.heads
    of_true = head.scores[head.targets]
    best, worst = videos.ends(found, 3)
    assert best == np.argsort(-of_true, kind="stable")[:3].tolist()
    assert sorted(of_true[worst]) == sorted(of_true)[:3]
    best, worst = videos.ends(found, 99)
    assert not set(best) & set(worst)


def test_films_play_what_the_model_saw(runs, parsed):
    films = [about["src"] for about in parsed.of("video")]
    assert len(films) == 8
    for film in films:
        kind, data = film.split(",", 1)
        assert kind == "data:video/mp4;base64"
        with av.open(io.BytesIO(base64.b64decode(data))) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height) == (videos.SIDE, videos.SIDE)
            assert sum(1 for _ in container.decode(stream)) == 4  # data.frames


def test_where_it_looked_stands_beside(runs):
    (run,) = read_runs([runs[0]])
    found = read_judged(run)
    assert found

    def attend(whose, seen, large):
        assert whose is run
        assert seen.shape == (2, 4, 16, 16, 3)
        return 255 - large

    films = videos.pictures(run, found, 1, 10**6, attend)
    with av.open(io.BytesIO(films.best[0].film)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    left, right = picture[:, : videos.SIDE], picture[:, -videos.SIDE :]
    assert np.abs(left + right - 255).mean() < 10


@pytest.mark.slow
def test_a_run_that_was_trained_shows_where_its_model_looked(tmp_path):
    (tmp_path / "videos").mkdir()
    for i in range(8):
        noise_video(tmp_path / f"videos/{'ab'[i % 2]}/{i}.mp4", i)
    given = experiment(
        data={"root": str(tmp_path / "videos"), "holdout": 0.5}, eval={"clips": 1, "crops": 1}
    )
    train.run(given, tmp_path / "run")
    (run,) = read_runs([tmp_path / "run"])
    found = read_judged(run)
    assert found
    films = videos.pictures(run, found, 1, 10**6, attend)
    assert (films.note, films.attended) == ("", True)
    with av.open(io.BytesIO(films.best[0].film)) as container:
        assert container.streams.video[0].width == 2 * videos.SIDE + 4
    shutil.rmtree(tmp_path / "run/checkpoints")
    films = videos.pictures(run, found, 1, 10**6, attend)
    assert not films.attended
    assert "step 2, which was judged, is no longer kept" in films.note
    assert films.best[0].film


def test_videos_that_are_gone_are_said_and_the_page_is_made(runs, tmp_path):
    workdir = shutil.copytree(runs[0], tmp_path / "moved")
    (workdir / "videos").rename(workdir / "elsewhere")
    settings = json.loads((workdir / "config.json").read_text())
    settings["data"]["root"] = str(workdir / "videos")
    (workdir / "config.json").write_text(json.dumps(settings))
    page = report.make([workdir], videos=1, attention=False)
    assert "The videos cannot be shown: data.root is" in page
    settings["data"]["root"] = str(workdir / "elsewhere")
    (workdir / "config.json").write_text(json.dumps(settings))
    for video in (workdir / "elsewhere/val").rglob("*.mp4"):
        video.write_bytes(b"spoilt")
    assert "unreadable: " in report.make([workdir], videos=1, attention=False)


def test_films_stay_within_their_bytes(runs):
    (run,) = read_runs([runs[0]])
    found = read_judged(run)
    assert found
    films = videos.pictures(run, found, 2, 4000)
    every = [*films.best, *films.worst]
    assert sum(len(film.film) for film in every) <= 4000
    assert any("to keep the page small" in film.why for film in every)


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    page = report.make([bare(tmp_path / "new")])
    assert "No evaluation yet." in page
    assert "No step was written yet." in page
    assert "No times were written yet." in page


@pytest.mark.parametrize("spoil", ["metrics.jsonl", "results.jsonl", "time.jsonl", "scores.npz"])
def test_files_that_are_spoilt_are_named_in_the_page(spoil, runs, tmp_path):
    workdir = shutil.copytree(runs[0], tmp_path / "spoilt")
    for file in workdir.rglob(spoil):
        file.write_bytes(b'\xff\xfe{"st\n' + file.read_bytes()[:200])
    page = report.make([workdir], videos=0)
    assert re.search(rf"{spoil}[^<]* cannot be (read|used)", page)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config.json does not exist; expected the workdir"):
        report.make([tmp_path])
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(InputError, match="is not JSON"):
        report.make([tmp_path])


@pytest.mark.parametrize("count", [10, 1000, 25_000])
def test_long_curves_keep_every_spike_and_make_none_up(count):
    rng = np.random.default_rng(0)
    values = rng.normal(size=count)
    values[count // 2] = 99.0
    values[count // 3] = np.nan
    steps, found = thinned(range(count), values.tolist(), 1000)
    assert len(steps) <= 1010
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert 99.0 in found
    assert None in found
    np.testing.assert_allclose(
        [x for x in found if x is not None],
        [values[i] for i, x in zip(steps, found, strict=True) if x is not None],
        rtol=1e-5,
    )


def browse(file, folder) -> tuple[str, list[str]]:
    """Returns the page as a browser leaves it, and what it complains of."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-extensions"]
    command += ["--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder}", "--virtual-time-budget=3000", f"file://{file}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
def test_a_browser_draws_the_page_without_an_error_or_the_network(page, runs, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    dom, errors = browse(file, tmp_path / "profile")
    assert errors == []
    assert 'data-drawn="yes"' in dom
    assert dom.count('class="curve run0"') >= 4
    assert dom.count('class="curve run1"') >= 4
    assert len(re.findall(r'<rect class="cell"', dom)) > 6
    top1 = metrics.read_lines(runs[1] / metrics.RESULTS)[-1]["top1"]
    assert f"{100 * top1:.1f} %" in dom
    # What it would look like if something did reach out, or ran.
    file.write_text(page.replace("<main>", '<main><img src="http://a.invalid/b.png">', 1))
    assert any("a.invalid" in line for line in browse(file, tmp_path / "profile")[1])
    file.write_text(page.replace("<main>", "<main><script>alert(1)</script>", 1))
    assert any("Content Security Policy" in line for line in browse(file, tmp_path / "profile")[1])
