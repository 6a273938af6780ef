"""Who may import whom, and what must not be loaded. A wrong import fails here, with its file."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "vivit_jax"
FLOORS = (  # each part imports its own floor and those below
    {"errors", "trees", "huge_pages", "finite", "host_memory", "files", "text"},
    {"meeting"},
    {"config", "options", "hardware", "layout", "sharding", "metrics"}
    | {"agreement", "processes", "host_tensorflow", "digest", "manifest", "retention"},
    {"data", "models", "measures", "optim", "freeze", "fitting", "drawing", "film", "feed"}
    | {"terminal", "clock", "profiler", "compile_cache", "checkpoint", "verify", "workdir_lock"}
    | {"fitting_rules", "orbax_manager"}
    | {"watching", "spikes", "sanity", "stopping", "watchdog"},
    {"objectives"},
    {"train_step", "recipe"},
    {"trained", "transfer", "pretrained"},
    {"evals"},
    {"observer"},
    {"analysis"},
    {"checks", "run", "resume"},
    {"step_log", "memory", "compiling", "judging"},
    {"loop"},
    {"train"},
    {"planning"},
    {"features"},
    {"command_line"},
    {"main", "predict", "live", "events", "unusual", "search", "summarise", "explain", "restore"}
    | {"plan", "benchmark", "benchmarks", "report", "page"},
)
FLOOR = {part: i for i, parts in enumerate(FLOORS) for part in parts}
NEVER = {  # within a floor, or well below
    "models": {"data", "config", "sharding", "optim"},
    "data": {"models", "optim"},
    "objectives": {"data", "config", "sharding", "optim"},
    "train_step": {"data", "config"},
}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "vivit_jax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vivit_jax."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            yield from (name[1] for name in names if name[0] == "vivit_jax" and name[1:])


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or part_of(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_downward(path):
    part = part_of(path)
    if part == "__init__":
        return
    imported = set(imported_parts(path))
    assert {name for name in imported if FLOOR[name] > FLOOR[part]} == set()
    assert imported & NEVER.get(part, set()) == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("vivit_jax.data.worker, vivit_jax.data.check", ("jax", "tensorflow", "matplotlib")),
        ("vivit_jax.train_step, vivit_jax.models, vivit_jax.objectives", ("tensorflow",)),
        ("vivit_jax.optim, vivit_jax.sharding, vivit_jax.data.augment", ("tensorflow",)),
        ("vivit_jax.train, vivit_jax.predict, vivit_jax.recipe", ("tensorflow", "matplotlib")),
        ("vivit_jax.config, vivit_jax.processes, vivit_jax.features", ("jax", "tensorflow")),
        ("vivit_jax.pretrained.__main__", ("jax", "tensorflow")),
        ("vivit_jax.report", ("jax", "tensorflow", "matplotlib", "av")),
    ],
)
def test_what_needs_no_library_does_not_load_it(module, forbidden):
    code = f"import sys, {module}; print([m for m in {forbidden} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
