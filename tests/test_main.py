"""The command as a user meets it: what can be mended is one line on stderr, and exit code 2.

Most commands run in this process; what only a new process can show takes one each.
"""

import concurrent.futures
import pathlib
import resource
import subprocess
import sys

import pytest

from vivit_jax import config, main, recipe, train
from vivit_jax.data import labels
from vivit_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = """
from vivit_jax.recipe import experiment


def get_config(size="mu"):
    return experiment(
        data=dict(batch_size=8, frames=4, stride=1, image_size=16, holdout=0.4),
        model=dict(name="video_transformer", size=size, tubelet=(2, 8, 8), pool="mean"),
        objective=dict(name="classify"),
        optim=dict(unit="steps"),
        train=dict(steps=2),
        eval=dict(clips=1, crops=1),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "config.py").write_text(CONFIG)
    (folder / "empty").mkdir()
    for name in ("a", "b"):
        (folder / "videos" / name).mkdir(parents=True)
        for i in range(6):
            # Nothing here is decoded: every command is refused before.
            (folder / f"videos/{name}/{i}.mp4").touch()
    return folder


def arguments(folder, *overrides, workdir="run"):
    return [
        f"--config={folder}/config.py",
        f"--workdir={folder / workdir}",
        f"--config.data.root={folder}/videos",
        *overrides,
    ]


def refusal(function, *given):
    """Returns what the user reads."""
    with pytest.raises(InputError) as caught:
        function(*given)
    return str(caught.value)


def shell(*given):
    command = [sys.executable, "-m", "vivit_jax.main", *given]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def test_help_is_there_at_once():
    done, seconds = shell("--help")
    assert done.returncode == 0
    assert "--config.SECTION.OPTION=VALUE" in done.stdout
    assert seconds < 1.5  # of computing, so that a machine at work says the same


def test_help_loads_no_large_library():
    program = """
import sys
from vivit_jax import main
try:
    sys.argv[1:] = ["--help"]
    main.main()
except SystemExit as end:
    assert end.code == 0
loaded = {"jax", "flax", "tensorflow", "ml_collections", "numpy", "av"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)


def test_the_shell_sees_one_line_and_exit_code_2(folder):
    commands = [
        ([], "--workdir is missing"),
        (["--workdir"], "argument --workdir: expected one argument"),
        (arguments(folder, "--config.data.frmes=8"), "Did you mean config.data.frames?"),
        (arguments(folder, "--config.data.dataset=kinetics"), "kinetics"),
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda command: shell(*command[0])[0], commands))
    for (_, message), done in zip(commands, results, strict=True):
        assert done.returncode == 2
        assert message in done.stderr
        assert "error: " in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
    assert not (folder / "run").exists()


def test_overrides_are_taken_in_every_form(folder):
    experiment, workdir = main.parse(
        arguments(
            folder,
            "--config.data.frames=8",
            *("--config.data.stride", "2"),
            "--config.model.tubelet=4,8,8",
            "--config.data.crop_area=(0.5, 1)",
            "--config.optim.nesterov",
            "--config.train.evaluate=false",
            "--config.optim.learning_rate=1e-5",
            "--config.optim.decay_at=3",
            "--config.optim.freeze=encoder/.*,!.*/(norm|time)/.*",
            "--config.model.lora_targets=query,out",
            "--config.eval.evaluators=",
            "--config.seed=5",
        )
    )
    assert workdir == folder / "run"
    assert (experiment.data.frames, experiment.data.stride, experiment.seed) == (8, 2, 5)
    assert experiment.model["tubelet"] == (4, 8, 8)
    assert experiment.data.crop_area == (0.5, 1.0)
    assert experiment.optim.nesterov
    assert not experiment.train.evaluate
    assert experiment.optim.learning_rate == 1e-5
    assert experiment.optim.decay_at == (3.0,)
    assert experiment.optim.freeze == ("encoder/.*", "!.*/(norm|time)/.*")
    assert experiment.model["lora_targets"] == ("query", "out")
    assert experiment.eval.evaluators == ()


def test_the_text_after_a_colon_reaches_the_config_file(folder):
    experiment, _ = main.parse([f"--config={folder}/config.py:Ti", f"--workdir={folder}/run"])
    assert experiment.model["size"] == "Ti"


def test_without_a_config_the_workdirs_own_is_used(folder, tmp_path):
    experiment, _ = main.parse(arguments(folder, "--config.model.tubelet=2,4,4"))
    (tmp_path / "config.json").write_text(config.to_json(experiment), encoding="utf-8")
    assert main.parse([f"--workdir={tmp_path}"]) == (experiment, tmp_path)
    again, _ = main.parse([f"--workdir={tmp_path}", "--config.train.steps=0"])
    assert again.train.steps == 0
    assert again.model == experiment.model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.dta.frames=8"], "config has no option 'dta'. Did you mean config.data?"),
        (["--config.model.dept=8"], "Did you mean config.model.depth?"),
        (["--config.data.frames=many"], "config.data.frames = 'many'; expected a whole number."),
        (["--config.data.frames=1.5"], "config.data.frames = '1.5'; expected a whole number."),
        (["--config.data.frames"], "Missing value for flag --config.data.frames."),
        (["--config.data.crop_area=1"], "crop_area = (1,); expected 2 values with commas"),
        (["--config.optim.nesterov=maybe"], "nesterov = 'maybe'; expected True or False."),
        (["--config.data=3"], "config.data is a section of options, such as config.data.batch_"),
        (["--config.seed.x=3"], "config.seed has no options of its own; its value is 0."),
        (["--config.data.frames.x=3"], "config.data.frames has no options of its own"),
        (["--wrkdir=x"], "Unknown flag --wrkdir=x; expected --workdir, --config or --config.SECT"),
        (["config.data.frames=8"], "Unexpected: config.data.frames=8; an override is --config."),
        (["--config.data.batch_size=0"], "config.data.batch_size = 0 is below 1."),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(folder, overrides, message):
    assert message in refusal(main.parse, arguments(folder, *overrides))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", ", line 1: "),
        ("import nothing_like_it\n", ", line 1: ModuleNotFoundError: No module named 'nothing_"),
        ("x = 1\n", "has no attribute 'get_config'"),
        ("def get_config():\n    pass\n", "get_config returned None; expected what recipe."),
        ("def get_config():\n    return {}['x']\n", ", line 2: KeyError: 'x'"),
        (CONFIG.replace("frames=", "frmes="), ", line 6: config.data has no option 'frmes'. Did"),
        (CONFIG.replace("dict(name=", "dict(nme="), ", line 6: config.model has no name; expec"),
    ],
)
def test_what_is_wrong_in_a_config_file_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    read = refusal(main.parse, [f"--config={file}", f"--workdir={tmp_path}/run"])
    assert read.startswith(str(file))
    assert message in read


def test_a_config_that_is_not_there_is_named(folder, tmp_path):
    workdir = f"--workdir={tmp_path}/run"
    assert "nothing.py is not a file" in refusal(main.parse, ["--config=nothing.py", workdir])
    assert f"{tmp_path}/run holds no run; give one of" in refusal(main.parse, [workdir])


def test_a_workdir_that_cannot_be_one_is_named(folder):
    read = refusal(main.parse, arguments(folder, workdir="config.py/run"))
    assert f"{folder}/config.py is no folder that can be written into." in read


def run(given):
    return train.run(*main.parse(given))


@pytest.fixture
def list_file(folder):
    def write(*lines):
        file = folder / "videos.csv"
        file.write_text("".join(f"{line}\n" for line in lines))
        return f"--config.data.train_list={file}"

    return write


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["frames=5"], "frames = 5 cannot be cut into tubelets of 2: model.tubelet is (2, 8, 8)"),
        (["image_size=17"], "height = 17 cannot be cut into tubelets of 8"),
        (["root={folder}/empty"], "No videos below {folder}/empty; expected class folders"),
        (["root={folder}/nowhere"], "'{folder}/nowhere', which is not a folder"),
        (["train_list={folder}/no.csv"], "{folder}/no.csv cannot be read"),
        (["dataset=kinetics"], "data.dataset is 'kinetics'; expected one of: ava_kinetics"),
        (["sampling=rndom"], "data.sampling is 'rndom'; expected one of random"),
        (["batch_size=9"], "config.data.batch_size / config.optim.accumulate = 9: expected a mul"),
        (["holdout=0"], "There are no videos to evaluate on (config.eval.split = 'eval')"),
    ],
)
def test_data_that_cannot_be_used_is_refused_before_anything_is_compiled(
    folder, overrides, message, monkeypatch
):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("trains"))
    overrides = [f"--config.data.{text.format(folder=folder)}" for text in overrides]
    assert message.format(folder=folder) in refusal(run, arguments(folder, *overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.heads=3", "model.heads = 3 does not divide model.width = 32"),
        ("model.attention=jont", "model.attention = 'jont' is none of joint"),
        ("optim.optimizer=adam", "config.optim.optimizer = 'adam'; expected one of adamw, sgd."),
        ("optim.accumulate=3", "config.optim.accumulate = 3 does not divide config.data.batch_s"),
        ("mesh.data=3", "'data': 3, 'fsdp': 1, 'sequence': 1, 'tensor': 1} does not fit 8 dev"),
        ("eval.crops=2", "eval.crops is 2; expected 1 or 3."),
        ("objective.mixup=-1", "objective.mixup = -1.0 is below 0."),
    ],
)
def test_a_model_or_a_recipe_that_cannot_be_is_refused(folder, override, message):
    assert message in refusal(run, arguments(folder, f"--config.{override}"))


def test_a_line_that_does_not_parse_is_named_by_its_number(folder, list_file):
    given = list_file("videos/a/0.mp4,a", "", "videos/b/0.mp4")
    read = refusal(run, arguments(folder, given))
    assert f"{folder}/videos.csv, line 3: no label: 'videos/b/0.mp4'" in read


def test_a_video_that_is_not_there_is_named_with_its_line(folder, list_file):
    given = list_file("a/0.mp4,a", "b/99.mp4,b")
    read = refusal(run, arguments(folder, given))
    assert f"videos.csv, line 2: no such file: {folder}/videos/b/99.mp4" in read


def test_nothing_can_be_evaluated_before_training(folder):
    given = arguments(folder, "--config.train.steps=0", workdir="untrained")
    assert f"{folder}/untrained/checkpoints has no checkpoint" in refusal(run, given)
    given.append("--config.train.evaluate=False")
    assert "config.train.evaluate is off" in refusal(run, given)


def test_a_workdir_keeps_its_model(folder):
    workdir = folder / "other"
    workdir.mkdir()
    experiment, _ = main.parse(arguments(folder))
    (workdir / "config.json").write_text(config.to_json(experiment), encoding="utf-8")
    read = refusal(run, arguments(folder, "--config.model.width=64", workdir="other"))
    assert "holds the run of another model: config.model.width was 0 and is 64" in read
    assert recipe.read_config(workdir) == experiment


def test_a_workdir_keeps_its_classes(folder):
    given = arguments(folder, workdir="classes")
    (folder / "classes").mkdir()
    (folder / "classes/label_map.txt").write_text("a\nc\n")
    read = refusal(run, given)
    assert f"{folder}/classes/label_map.txt has 2 classes" in read
    assert "b, c" in read


def test_label_maps_are_kept_for_every_head(tmp_path):
    maps = (("pick up", "pùt \udce4", "\u2028"), ("cup",))
    workdir = tmp_path / "new"
    for _ in range(2):
        labels.keep_label_maps(workdir, maps)
        assert labels.read_label_maps(workdir) == maps
    for other in (maps[:1], (*maps, ("left",)), (maps[0], ("cup", "plate"))):
        refusal(labels.keep_label_maps, workdir, other)
        assert labels.read_label_maps(workdir) == maps


def test_a_folder_without_label_maps_is_no_workdir(tmp_path):
    assert "has no label_map.txt" in refusal(labels.read_label_maps, tmp_path)
