"""What a plan says beside what a run has: python tests/benchmarks/plan_reality.py WORKDIR

Six small recipes on 8 fake CPU devices, each twice, in processes of their own: once planned, with
no video anywhere, and once as a run that has read videos, made its state and compiled its step. It
prints the bytes of a device: the state by shapes beside the live arrays' own shards, and the step
by the plan's compilation beside the run's.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CASES = {  # config, and what is different
    "ViViT joint, data 8": ("quickstart", ["--config.model.attention=joint"]),
    "ViViT factorised encoder, fsdp 8": (
        "quickstart",
        ["--config.mesh.data=1", "--config.mesh.fsdp=8"],
    ),
    "ViViT factorised encoder, data 2 fsdp 2 tensor 2": (
        "quickstart",
        ["--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2"],
    ),
    "divided, scan, remat full, 2 parts": (
        "quickstart",
        ["--config.model.attention=divided", "--config.model.scan=True"]
        + ["--config.model.remat=full", "--config.optim.accumulate=2"],
    ),
    "VideoMAE pretraining, data 4 fsdp 2": (
        "quickstart_pretrain",
        ["--config.mesh.fsdp=2"],
    ),
    "V-JEPA pretraining, bfloat16, data 8": (
        "vjepa_pretrain:L,smoke",
        ["--config.model.dtype=bfloat16"],
    ),
}


def flags(case: str) -> list[str]:
    """Returns the flags of a case."""
    config, different = CASES[case]
    file, _, argument = config.partition(":")
    return ["--config", f"configs/{file}.py" + (argument and f":{argument}"), *different]


def planned(case: str) -> dict[str, float]:
    """Returns bytes of a device by a plan, made in a process of its own."""
    command = [sys.executable, "-m", "vivit_jax.plan", *flags(case), "--json", "--like=motions"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["bytes_of_a_device"]
    state = sum(found[name] for name in ("parameters", "optimiser", "average"))
    return {"state": state, "step": found["xla"]["total"]}


def real(case: str, workdir: pathlib.Path) -> dict[str, float]:
    """Returns bytes of a device of a run; for a process of its own."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    from vivit_jax import compiling, main, run

    experiment, _ = main.parse([*flags(case), "--workdir", str(workdir)])
    prepared = run.prepare(experiment, workdir)
    state = prepared.init()
    with train.batches_from(prepared, 0) as batches:
        batch = batches.next(busy_with=())
        stats = compiling.compile_step(prepared, state, batch).memory_analysis()
    shards = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(state)]
    step = stats.argument_size_in_bytes + stats.temp_size_in_bytes  # type: ignore[union-attr]
    step += stats.output_size_in_bytes - stats.alias_size_in_bytes  # type: ignore[union-attr]
    return {
        "state": sum(shard.nbytes for shard in shards),
        "step": step + stats.generated_code_size_in_bytes,  # type: ignore[union-attr]
    }


def measured(case: str, workdir: pathlib.Path) -> dict[str, float]:
    """Returns `real` from a process of its own."""
    command = [sys.executable, __file__, str(workdir), case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    workdir = pathlib.Path(sys.argv[1]).absolute()
    if len(sys.argv) > 2:
        print(json.dumps(real(sys.argv[2], workdir)))
        return
    workdir.mkdir(parents=True, exist_ok=True)
    print("| recipe | state, planned | live | ratio | step, planned | the run's | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        plan, run = planned(case), measured(case, workdir)
        cells = [
            f"{plan[name]:,} | {run[name]:,} | {plan[name] / run[name]:.4f}"
            for name in ("state", "step")
        ]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
