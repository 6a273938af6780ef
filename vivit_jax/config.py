"""What an experiment is: every option, its unit and its default, in one place.

A config file returns an ml_collections.ConfigDict, so that the command line can override it;
`parse` turns it into the frozen dataclasses below, and nothing past the commands sees a
ConfigDict. The options of a model and of an objective are the fields of their own classes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.options import choose, fill


@dataclasses.dataclass(frozen=True)
class Data:
    """Which videos, and what a training clip of one is.

    Attributes:
      dataset: a row of data/catalog.py; "videos" is any folder or list of video files, and those of
        docs/datasets.md are read as they are published.
      root: a folder of class folders, or what the relative paths of the lists start from.
      train_list: a file of `path label` lines, in place of class folders.
      eval_list: the same for the held-out videos.
      label_map: a file with a label name a line; inferred from the videos when empty.
      labels: "single" (one label a video), "multi" (any number), "heads" (one for each head) or
        "none": a list's labels are not read, and folders are no classes. Where the data set of the
        catalogue has others, "single" becomes those.
      split: which of its official splits, where the data set has several: 1 and up.
      exclude: a bad list, as the dataset doctor (data/check.py) and training itself write it to
        bad_videos.jsonl: its videos are left out; the classes stay what they are without it.
      holdout: share of the videos held out, by a stable hash of a video's id; read only where
        neither eval_list nor folders named train and val split them.
      train_share: share of the training videos that is used, by a stable hash of their ids: of
        each class (with "heads", the first head's) the same share, and at least one video.
      batch_size: videos of one optimiser step, over all devices.
      repeats: clips of each of them in that step (repeated augmentation): the same frames, decoded
        once, each cut and augmented anew; epochs and learning rates count videos.
      frames: T, frames of a clip.
      stride: source frames from one frame of the clip to the next, at the source's mean rate.
      fps: frames a second of the clip, in place of stride; 0 to use stride.
      sampling: "random" (a random window), "segments" (TSN: one random frame of each of T equal
        segments), "centre" (the middle window) or "key_frames" (one frame of each of T segments in
        which as much changes, so that still stretches give few; a video is then decoded twice).
      short_videos: what follows the last frame: "loop" (the video again) or "hold" (that frame).
      frame_order: "forward"; "shuffled" and "repeated" (one frame of the clip, T times) are
        controls that prove what a model learns from time.
      image_size: H = W, pixels.
      crop: a row of data/geometry.py's CROPS.
      crop_area: smallest and largest share of the picture, for crop="random_resized".
      crop_aspect: smallest and largest width over height, for crop="random_resized".
      resize: short side before the crop, pixels, for crop="scale_jitter", "short_side_jitter" and
        "centre"; 0 means image_size.
      scale_jitter: smallest and largest factor on the resized height and width: one each for
        crop="scale_jitter", one for both for "short_side_jitter".
      digests: a file as `sha256sum` writes it, of all the videos: one whose SHA-256 is another is
        refused whenever it is read, whatever codec it has.
      follow_links: links below data.root, or below a list's folder, may lead out of it.
      workers: decoding processes of this host; 0 means one a core.
      timeout: seconds that reading a video may take; one that takes longer is refused.
      worker_memory: GB that a decoding process may take for a video; likewise.
      max_bad: share of unreadable videos above which training stops.
    """

    dataset: str = "videos"
    root: str = ""
    train_list: str = ""
    eval_list: str = ""
    label_map: str = ""
    labels: str = "single"
    split: int = 1
    exclude: str = ""
    holdout: float = 0.2
    train_share: float = 1.0
    batch_size: int = 32
    repeats: int = 1
    frames: int = 16
    stride: int = 4
    fps: float = 0.0
    sampling: str = "random"
    short_videos: str = "loop"
    frame_order: str = "forward"
    image_size: int = 224
    crop: str = "random_resized"
    crop_area: tuple[float, float] = (0.25, 1.0)
    crop_aspect: tuple[float, float] = (0.75, 1.3333)
    resize: int = 0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    digests: str = ""
    follow_links: bool = False
    workers: int = 0
    timeout: float = 60.0
    worker_memory: float = 4.0
    max_bad: float = 0.05


@dataclasses.dataclass(frozen=True)
class Augment:
    """What the device does to a training clip; every draw is one for all frames of a clip.

    Attributes:
      flip: probability of a mirror image; datasets whose labels tell directions forbid it.
      flip_directional: mirror even those, as some releases do.
      colour_jitter: probability of a random brightness, contrast, saturation and hue.
      brightness: largest shift, as a share of the full range.
      contrast: factor from 1 - contrast to 1 + contrast.
      saturation: likewise.
      hue: largest turn, as a share of the colour circle.
      grey: probability of dropping colour.
      randaugment_layers: RandAugment operations in a row; 0 for none.
      randaugment_magnitude: strength of each, 0 to 10.
      randaugment_std: standard deviation of the strength.
      randaugment_probability: probability of each operation.
      erase: probability of random erasing.
      erase_area: smallest and largest share of the picture that is erased.
    """

    flip: float = 0.5
    flip_directional: bool = False
    colour_jitter: float = 0.0
    brightness: float = 0.125
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    grey: float = 0.0
    randaugment_layers: int = 0
    randaugment_magnitude: float = 7.0
    randaugment_std: float = 0.5
    randaugment_probability: float = 0.5
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.3333)


@dataclasses.dataclass(frozen=True)
class Optim:
    """How parameters change.

    Attributes:
      optimizer: "adamw" or "sgd".
      learning_rate: at the top of the schedule.
      per_videos: the learning rates here are for as many videos a step, and scaled in proportion to
        data.batch_size (repeats don't count); 0 takes them as they are.
      schedule: "cosine", "constant" or "steps" (times decay_factor at each of decay_at).
      horizon: length of the cosine (and of the two other changes below) over that of the run, which
        then ends before they do.
      warmup: length of the linear rise, in units of `unit`.
      warmup_from: learning rate that it starts at.
      decay_at: for schedule="steps", in units of `unit`.
      decay_factor: for schedule="steps".
      end_learning_rate: where the cosine ends.
      unit: "steps" or "epochs": of warmup and decay_at.
      momentum: of SGD.
      nesterov: of SGD.
      b1: of AdamW.
      b2: of AdamW.
      weight_decay: decoupled; times the learning rate. Biases, norms, positions and class tokens
        are never decayed.
      weight_decay_end: where it gets to, by half a cosine; below 0 for the same all along.
      clip: largest global norm of the gradient; 0 for no clipping.
      clip_per: of which gradient: of the whole "step", or of each "part" that accumulate makes,
        before their mean (as where each device clips its own).
      spike: an update is left out where its gradient's global norm, before `clip`, is over so many
        times the median of the last ones, unless that goes on; 0 for no such rule.
      spike_window: steps that this median is of.
      layer_decay: factor on the learning rate from each layer to the one below; 1 for none.
      freeze: parameters that stay as they are: regular expressions of whole paths, "!" before those
        that are learnt after all, or a row of freeze.NAMED: "space", "frames" or "all_but_lora".
        Commas part them on a command line, so none is within one.
      accumulate: equal parts that a batch is run in, one after another, for one update.
      average: decay a step of the average of weights that evaluation uses; 0 for none.
      average_end: where that decay gets to, in a straight line; 0 for the same all along.
    """

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    per_videos: int = 0
    schedule: str = "cosine"
    horizon: float = 1.0
    warmup: float = 0.0
    warmup_from: float = 0.0
    decay_at: tuple[float, ...] = ()
    decay_factor: float = 0.1
    end_learning_rate: float = 0.0
    unit: str = "epochs"
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    weight_decay_end: float = -1.0
    clip: float = 0.0
    clip_per: str = "step"
    spike: float = 0.0
    spike_window: int = 128
    layer_decay: float = 1.0
    freeze: tuple[str, ...] = ()
    accumulate: int = 1
    average: float = 0.0
    average_end: float = 0.0

    @property
    def weights(self) -> str:
        """The field of the TrainState that is judged and handed on."""
        return "average" if self.average else "params"


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, and how often to look.

    Attributes:
      steps: optimiser steps; 0 only evaluates the newest checkpoint; -1 means by epochs.
      epochs: read when steps is -1.
      log_every: steps between lines of metrics.jsonl.
      checkpoint_every: steps between checkpoints.
      keep: newest checkpoints kept, besides the best.
      evaluate: False for no evaluation at all.
      evaluate_every: steps between evaluations; 0 means only at the end.
      changed_data: what a run does that would go on with other videos, labels, batch_size or seed
        than its checkpoint was saved with: "refuse", or "go_on" from that step.
      profile: the first and the last step of a trace by JAX's profiler, of the first process, into
        WORKDIR/profile; (0, 0) for none.
      max_skipped: updates left out one after another, as not finite or as spikes, at which the run
        goes back to a checkpoint before them, with another order of the videos; 0 for never.
      max_rollbacks: times that a run goes back so, or from weights that are not finite, before it
        ends with exit code 1.
      patience: seconds for which a step may stand still before the run is ended as stuck (ten times
        the median of the last steps, where that is more; other phases have ten times as long); 0
        for no end. A hanging video alone is given up after 60.
    """

    steps: int = -1
    epochs: float = 30.0
    log_every: int = 50
    checkpoint_every: int = 1000
    keep: int = 3
    evaluate: bool = True
    evaluate_every: int = 0
    changed_data: str = "refuse"
    profile: tuple[int, int] = (0, 0)
    max_skipped: int = 50
    max_rollbacks: int = 2
    patience: float = 300.0


@dataclasses.dataclass(frozen=True)
class Eval:
    """How held-out videos are judged.

    Attributes:
      evaluators: rows of evals.EVALUATORS; empty for the objective's usual one.
      split: "eval" (held-out) or "train".
      clips: clips of a video, evenly spaced in time.
      crops: crops of a clip along its longer side: 1 or 3.
      resize: short side before the crop, pixels; 0 means data.image_size.
      average: mean over views of the "softmax" (or sigmoid) or of the "logits".
      batch_size: videos at once over all devices; 0 means as many as give about
        data.batch_size clips.
      strict: an unreadable video is an error.
      best: the result by which the best checkpoint is kept; empty for the first that the first
        evaluator has (top1, or mean_average_precision with data.labels="multi").
      pictures: videos, evenly spaced over the split, that reconstruction and feature_pca draw.
    """

    evaluators: tuple[str, ...] = ()
    split: str = "eval"
    clips: int = 4
    crops: int = 3
    resize: int = 0
    average: str = "softmax"
    batch_size: int = 0
    strict: bool = False
    best: str = ""
    pictures: int = 4


@dataclasses.dataclass(frozen=True)
class Probe:
    """How frozen features are judged, by what they tell of labels that the encoder never saw.

    Read by the evaluators linear_probe, attentive_probe, knn and retrieval, and clips and crops
    also by the command `features`. Training videos too are seen as in evaluation: nothing of a view
    is random. With data.labels="heads" they judge by the first head.

    Attributes:
      clips: clips of a video, evenly spaced in time; summaries are averaged over all views, and
        the attentive probe sees the tokens of all.
      crops: crops of a clip along its longer side: 1 or 3.
      learning_rates: of the probes; one is trained for each of these and each weight decay, all at
        once, by AdamW, with a cosine to 0.
      weight_decays: decoupled, of matrices only.
      chosen_by: share of the training videos on which the best of these is chosen, in place of
        training on them; nothing is chosen by the videos that it is then judged on.
      batch_size: videos of one step of a probe, over all devices.
      linear_epochs: passes of the linear probe.
      attentive_epochs: passes of the attentive probe.
      standardise: the linear probe sees features of mean 0 and variance 1 on its training videos.
      depth: self-attention blocks of the attentive probe, before the one that pools.
      cache: tokens of training videos that the attentive probe keeps on the devices, GB over all of
        them; where there are more, videos are read and encoded anew for each epoch.
      whiten: knn and retrieval compare features in which every direction varies alike over the
        training videos.
      neighbours: training videos that vote on a video in knn.
      temperature: a neighbour's vote is exp(cosine similarity / temperature).
    """

    clips: int = 1
    crops: int = 1
    learning_rates: tuple[float, ...] = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    weight_decays: tuple[float, ...] = (0.01, 0.1, 0.8)
    chosen_by: float = 0.1
    batch_size: int = 64
    linear_epochs: int = 100
    attentive_epochs: int = 20
    standardise: bool = True
    depth: int = 0
    cache: float = 4.0
    whiten: bool = False
    neighbours: int = 20
    temperature: float = 0.07


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices along each mesh axis; -1 for one axis takes all that are left.

    Attributes:
      dcn: slices of a pod (or groups of hosts) joined by a slower network: the batch is split over
        them, and gradients are all that crosses it.
      data: the batch is split, parameters are not.
      fsdp: the batch is split, and so are parameters and optimiser state.
      sequence: the tokens of a clip are split, for long clips; parameters and optimiser state as by
        fsdp.
      tensor: heads and MLP columns are split.
      rules: rows before those of sharding.RULES, each as "PATTERN=AXES": a regular expression that
        the paths of some parameters end in, and for each of their last axes the mesh axis that
        splits it, or "-", such as "mlp_in/kernel=fsdp tensor".
    """

    dcn: int = 1
    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int = 1
    rules: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run.

    Attributes:
      model: {"name": a row of models.MODELS, and its fields}.
      objective: {"name": a row of objectives.OBJECTIVES, and its fields}.
      data: the videos, and clips of them.
      augment: what happens to a training clip.
      optim: the update.
      train: the length of the run.
      eval: how it is judged.
      probe: how its frozen features are.
      mesh: the devices.
      seed: of everything random.
      init_from: the workdir of another run, or its WORKDIR/checkpoints/STEP (its average of
        weights, where it keeps one; LoRA is folded in), or published weights as FAMILY:PATH
        (pretrained/__init__.py lists them), whose encoder training starts from; or several with
        commas, each of which has what the others lack. Empty to start from random weights. Not
        read where the run's own workdir has a checkpoint.
      init_time_from_space: with init_from of a model without attention over time, that of
        "factorised_self_attention" and "divided" starts as the one over space (with its norm)
        instead of anew.
    """

    model: Mapping[str, Any]
    objective: Mapping[str, Any]
    data: Data = Data()
    augment: Augment = Augment()
    optim: Optim = Optim()
    train: Train = Train()
    eval: Eval = Eval()
    probe: Probe = Probe()
    mesh: Mesh = Mesh()
    seed: int = 0
    init_from: str = ""
    init_time_from_space: bool = False


def parse(section: Mapping[str, Any]) -> Experiment:
    """Returns the experiment that a config file or a config.json describes.

    Raises:
      InputError: an option is unknown or has the wrong type; names it as `config.data.frames`.
    """
    experiment = fill(Experiment, section, "config")
    limits = {
        "seed": (experiment.seed, 0),
        "data.batch_size": (experiment.data.batch_size, 1),
        "data.repeats": (experiment.data.repeats, 1),
        "data.workers": (experiment.data.workers, 0),
        "data.timeout": (experiment.data.timeout, 0.1),
        "data.worker_memory": (experiment.data.worker_memory, 0.1),
        "optim.accumulate": (experiment.optim.accumulate, 1),
        "train.steps": (experiment.train.steps, -1),
        "train.epochs": (experiment.train.epochs, 0),
        "train.log_every": (experiment.train.log_every, 1),
        "train.checkpoint_every": (experiment.train.checkpoint_every, 1),
        "train.keep": (experiment.train.keep, 1),
        "train.evaluate_every": (experiment.train.evaluate_every, 0),
        "train.max_skipped": (experiment.train.max_skipped, 0),
        "train.max_rollbacks": (experiment.train.max_rollbacks, 0),
        "train.patience": (experiment.train.patience, 0),
        "eval.batch_size": (experiment.eval.batch_size, 0),
        "eval.pictures": (experiment.eval.pictures, 0),
    }
    probe = experiment.probe
    for field in ("clips", "batch_size", "linear_epochs", "attentive_epochs", "neighbours"):
        limits[f"probe.{field}"] = (getattr(probe, field), 1)
    for field in ("depth", "cache"):
        limits[f"probe.{field}"] = (getattr(probe, field), 0)
    for name, (value, least) in limits.items():
        if value < least:
            raise InputError(f"config.{name} = {value} is below {least}.")
    choose("config.optim.unit", experiment.optim.unit, ("steps", "epochs"))
    choose("config.train.changed_data", experiment.train.changed_data, ("refuse", "go_on"))
    choose("config.eval.split", experiment.eval.split, ("eval", "train"))
    choose("config.eval.average", experiment.eval.average, ("softmax", "logits"))
    _check_probe(probe)
    if experiment.init_time_from_space and not experiment.init_from:
        raise InputError("config.init_time_from_space = True; expected config.init_from with it.")
    return experiment


def _check_probe(probe: Probe) -> None:
    """Refuses a grid of probes that cannot be trained or chosen from."""
    rates, decays = probe.learning_rates, probe.weight_decays
    if not rates or min(rates) <= 0:
        raise InputError(f"config.probe.learning_rates = {rates}; expected one or more, above 0.")
    if not decays or min(decays) < 0:
        raise InputError(f"config.probe.weight_decays = {decays}; expected one or more, none < 0.")
    if probe.crops not in (1, 3):
        raise InputError(f"config.probe.crops = {probe.crops}; expected 1 or 3.")
    if not 0 < probe.chosen_by < 1:
        raise InputError(f"config.probe.chosen_by = {probe.chosen_by} is not in (0, 1).")
    if not probe.temperature > 0:
        raise InputError(f"config.probe.temperature = {probe.temperature} is not above 0.")


def to_json(experiment: Experiment) -> str:
    """Returns what `from_json` reads."""
    return json.dumps(dataclasses.asdict(experiment), indent=2) + "\n"


def from_json(file: pathlib.Path) -> Experiment:
    """Returns the experiment that a workdir's config.json holds.

    Raises:
      InputError: the file is no such.
    """
    try:
        section = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}.") from error
    try:
        return parse(section)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
