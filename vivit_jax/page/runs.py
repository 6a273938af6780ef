"""What a run's workdir tells, read file by file; what is missing or spoilt is told, not raised."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from vivit_jax.clock import TIME
from vivit_jax.data.labels import read_label_maps
from vivit_jax.errors import InputError
from vivit_jax.metrics import METRICS, RESULTS, ROLLBACKS, SKIPPED, held_out, read_lines, split_of

Record = dict[str, Any]
NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_average_precision": "mean average precision",
    "precision": "precision, mean over classes",
    "recall": "recall, mean over classes",
    "f1": "F1, mean over classes",
    "precision_micro": "precision, all decisions",
    "recall_micro": "recall, all decisions",
    "f1_micro": "F1, all decisions",
    "ece": "expected calibration error",
    "ece_scaled": "… after temperature scaling",
    "coverage": "videos that could be read",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What the files of a run say.

    Attributes:
      name: that no other run of the page has.
      workdir: absolute.
      settings: the sections of config.json.
      metrics: lines of metrics.jsonl, as the next ones of their files.
      results: of results.jsonl.
      time: of time.jsonl.
      skipped: of skipped_updates.jsonl.
      rollbacks: of rollbacks.jsonl.
      bad: of bad_videos.jsonl, of all processes.
      label_maps: names of the classes, a map for each head; empty where there is none.
      problems: files that could not be read, in words.
    """

    name: str
    workdir: pathlib.Path
    settings: Record
    metrics: list[Record]
    results: list[Record]
    time: list[Record]
    skipped: list[Record]
    rollbacks: list[Record]
    bad: list[Record]
    label_maps: tuple[tuple[str, ...], ...]
    problems: list[str]

    @property
    def counted(self) -> list[Record]:
        """The results of held-out videos; where there are none, those of training videos."""
        return held_out(self.results)

    @property
    def last(self) -> Record:
        """The newest of them, of all evaluations of that step together; empty before any."""
        counted, found = self.counted, {}
        for record in counted:
            if record["step"] == counted[-1]["step"]:
                found |= record
        return found

    @property
    def split(self) -> str:
        """Of which videos they are: HELD_OUT or "train"."""
        return split_of(self.last)

    @property
    def evaluation(self) -> pathlib.Path | None:
        """The folder of the newest evaluation; None where it wrote none."""
        if not self.results:
            return None
        folder = f"{int(self.last['step']):08d}-{self.split}"
        path = self.workdir / "evaluation" / folder
        return path if path.is_dir() else None

    def option(self, section: str, name: str, default: Any = None) -> Any:
        """Returns an option of the config, as it stands in config.json."""
        options = self.settings.get(section)
        return options.get(name, default) if isinstance(options, dict) else default


def read_runs(folders: Sequence[pathlib.Path]) -> list[Run]:
    """Returns the runs of some workdirs, each once.

    Raises:
      InputError: one is no workdir of a run.
    """
    workdirs = list(dict.fromkeys(folder.absolute().resolve() for folder in folders))
    return [_read(workdir, name) for workdir, name in zip(workdirs, _names(workdirs), strict=True)]


def flat(settings: Record, above: str = "") -> dict[str, Any]:
    """Returns the options of a config by path, as in "optim.learning_rate"."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found


def called(key: str) -> str:
    """Returns what a result is called."""
    for name, words in NAMES.items():
        if key == name or key.startswith(f"{name}_head_"):
            return words + key.removeprefix(name).replace("_", " ")
    return key.replace("_", " ")


def is_end(key: str) -> bool:
    """Returns whether a result is an end of another's interval, as top1_low or top1_low_head_0."""
    return key.partition("_head_")[0].endswith(("_low", "_high"))


def lines(file: pathlib.Path, problems: list[str], key: str = "step") -> list[Record]:
    """Returns the records of a file that have a key; what is wrong with it goes to `problems`."""
    try:
        records = read_lines(file)
    except (OSError, UnicodeError) as error:
        problems.append(f"{file.name} cannot be read: {error}.")
        return []
    good = [x for x in records if isinstance(x, dict) and key in x]
    if key == "step":
        good = [x for x in good if isinstance(x["step"], int)]
    if len(good) < len(records):
        problems.append(f"{file.name} has {len(records) - len(good)} lines that are no records.")
    return good


def _read(workdir: pathlib.Path, name: str) -> Run:
    """Returns a run."""
    problems: list[str] = []
    settings = _settings(workdir / "config.json")
    try:
        maps = read_label_maps(workdir)
    except (InputError, OSError):
        maps = ()  # of a run that learns without labels
    files = sorted(workdir.glob("bad_videos*.jsonl"))
    return Run(
        name=name,
        workdir=workdir,
        settings=settings,
        metrics=lines(workdir / METRICS, problems),
        results=lines(workdir / RESULTS, problems),
        time=lines(workdir / TIME, problems),
        skipped=lines(workdir / SKIPPED, problems),
        rollbacks=lines(workdir / ROLLBACKS, problems),
        bad=[record for file in files for record in lines(file, problems, "id")],
        label_maps=maps,
        problems=problems,
    )


def _settings(file: pathlib.Path) -> Record:
    """Returns what a config.json says.

    Raises:
      InputError: there is none.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist; expected the workdir of a run.")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file} is not JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} holds no config; expected the workdir of a run.")
    return settings


def _names(workdirs: Sequence[pathlib.Path]) -> list[str]:
    """Returns the shortest ends of paths that tell them apart."""
    for length in range(1, max(len(path.parts) for path in workdirs) + 1):
        names = ["/".join(path.parts[-length:]) for path in workdirs]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in workdirs]
