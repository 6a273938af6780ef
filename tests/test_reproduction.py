"""docs/reproduction.md and README's table of models: what they say follows from the configs."""

import ast
import json
import math
import re

import jax
import pytest
from recipes import PUBLISHED, ROOT, STEPS, costs, data_set, load, names, shapes

from vivit_jax import config, optim, recipe
from vivit_jax.objectives.masked_pixels import MaskedPixels

DOC = "docs/reproduction.md"
MFU = 0.4  # of the peak below: an assumption
PEAKS = {"A100": 312, "H100": 989, "v5e": 197}  # dense bfloat16, TFLOP/s
WITH_HIDDEN = "¹"  # the published number counts the embedding of hidden patches as well


def table(file, heading):
    """The rows of the table below a heading, as {column: cell}."""
    text = (ROOT / file).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    lines = re.search(r"(?:^\|.*\n)+", text.split("\n## ")[0], re.MULTILINE)
    assert lines, heading
    rows = [[x.strip() for x in row[1:-1].split("|")] for row in lines[0].splitlines()]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def rounded(number):
    """Three significant digits, as people write them."""
    return f"{float(f'{number:.3g}'):,g}"


def what_it_is(name):
    """The cells that tell a recipe's model."""
    data = load(*name.split(":")).data
    return {
        "clip": f"{data.frames}x{data.image_size}x{data.image_size}",
        "GFLOPs": f"{costs(name).forward / 1e9:.1f}",
    }


def what_it_costs(name):
    """The cells that tell what a recipe's training takes."""
    experiment, macs = load(*name.split(":")), costs(name)
    data, train, videos = experiment.data, experiment.train, data_set(name).videos
    by_steps = name.split(":")[0] in STEPS
    seen = train.steps * data.batch_size if by_steps else train.epochs * videos
    flops = 2 * macs.step * seen * data.repeats
    hours = {chip: flops / (MFU * peak * 1e12 * 3600) for chip, peak in PEAKS.items()}
    return {
        "videos": "any" if by_steps else f"{videos:,}",
        "epochs": f"{train.steps:,} steps" if by_steps else f"{train.epochs:g}",
        "clips, M": rounded(seen * data.repeats / 1e6),
        "EFLOP": rounded(flops / 1e18),
        **{chip: rounded(number) for chip, number in hours.items()},
    }


def hidden_embedding(name):
    """Multiply-accumulates that embedding the hidden patches of a clip would take."""
    experiment = load(*name.split(":"))
    objective = recipe.build_objective(experiment, names([1]))
    assert isinstance(objective, MaskedPixels)
    encoder, data = objective.encoder, experiment.data
    axes = encoder.grid(data.frames, data.image_size, data.image_size)  # type: ignore
    hidden = math.prod(axes) - objective.counts(axes)[0]
    return hidden * math.prod(encoder.tubelet) * 3 * encoder.dims.width  # type: ignore


@pytest.mark.parametrize("heading", ["What each is", "What is published", "What it costs"])
def test_every_recipe_of_a_paper_is_told_of(heading):
    assert [row["recipe"] for row in table(DOC, heading)] == PUBLISHED


def size(tree):
    """The number of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


FIRST = {name.partition(":")[0]: name for name in reversed(PUBLISHED)}.values()  # of each file


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FIRST else pytest.mark.slow) for n in PUBLISHED]
)
def test_a_recipe_makes_at_full_size_the_parameters_that_are_told(name):
    experiment = load(*name.split(":"))
    tree = shapes(experiment)
    optim.make_optimizer(experiment.optim, lambda step: step, tree, 10)
    count = size(tree) + (sum(data_set(name).classes) - 1) * size(tree.get("head", {}))
    (row,) = (r for r in table(DOC, "What each is") if r["recipe"] == name)
    assert row["parameters"] == f"{count:,}"
    if row["published, M"]:
        assert count / 1e6 == pytest.approx(float(row["published, M"]), rel=0.01)


def test_the_clips_and_costs_of_recipes_are_as_told_and_within_a_hundredth_of_the_published():
    for row in table(DOC, "What each is"):
        name = row["recipe"]
        told = {column: row[column] for column in ("clip", "GFLOPs")}
        assert told == what_it_is(name), name
        if giga := row["published"]:
            more = hidden_embedding(name) if giga.endswith(WITH_HIDDEN) else 0
            found = (costs(name).forward + more) / 1e9
            assert found == pytest.approx(float(giga.strip(f" {WITH_HIDDEN}")), rel=0.01), name


def test_the_costs_of_recipes_are_as_told():
    for row in table(DOC, "What it costs"):
        assert row == {"recipe": row["recipe"], **what_it_costs(row["recipe"])}


def test_a_recipe_is_judged_by_the_views_that_are_told():
    for row in table(DOC, "What is published"):
        if row["views"]:
            judged = load(*row["recipe"].split(":")).eval
            assert row["views"] == f"{judged.clips}x{judged.crops}", row["recipe"]


def test_what_switches_a_recipe_to_another_reading_is_an_option():
    rows = table(DOC, "Where the paper and its release disagree")
    for row in rows:
        name, flags = row["recipe"], re.findall(r"--config\.(\w+)\.(\w+)=([^\s`]+)", row["switch"])
        assert flags, row
        assert name in PUBLISHED
        experiment = load(*name.split(":"))
        sections = json.loads(config.to_json(experiment))
        for section, option, value in flags:
            assert option in sections[section], (name, option)
            kind = type(sections[section][option])
            given = value if kind is str else ast.literal_eval(value)
            assert given != sections[section][option], f"{name} has {option} already"
            sections[section][option] = given
        recipe.build_objective(config.parse(sections), names(data_set(name).classes))


def test_readme_s_table_says_the_same():
    published = {r["recipe"]: r for r in table(DOC, "What is published")}
    models = {r["recipe"]: r for r in table(DOC, "What each is")}
    rows = table("README.md", "Models")
    assert len(rows) > 10
    for row in rows:
        name = row["recipe"].strip("`")
        for column in ("clip", "parameters", "GFLOPs"):
            assert row[column] == models[name][column], name
        assert row["paper's"] == models[name]["published"], name
        assert row["published top-1"] == published[name]["published top-1"], name
        assert row["ours"] == published[name]["ours"], name
