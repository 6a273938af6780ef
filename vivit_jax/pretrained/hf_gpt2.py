"""Hugging Face's GPT-2, of which a frame model takes the blocks: a part, to be read beside frames.

    --config.init_from=resnet:FILE,hf:GPT2 --config.model.time=gpt2 --config.model.time_width=768

A clip has no words, so their vectors are left, and a model with fewer blocks or frames takes the
first of both (transfer.py).
"""

from vivit_jax.models.over_time import GPT2
from vivit_jax.pretrained.found import Found
from vivit_jax.pretrained.hf_folder import Folder
from vivit_jax.pretrained.rules import Left, Rule, norm

NAMES = ((r"^transformer\.", ""),)  # where the words' head is beside
PUBLISHED = {  # what none of those published differ in
    "activation_function": "gelu_new",
    "layer_norm_epsilon": GPT2["norm_eps"],
    "n_inner": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
PART = "encoder/time/"
BLOCK = f"{PART}block_{{i}}"
ATTEND = f"{BLOCK}/attention_0"
SIDE = 32  # pixels of a frame that stands in for any
RULES = [  # their kernels lie as ours
    Rule("wpe.weight", f"{PART}position", "t d -> 1 t d"),
    *norm("h.{i}.ln_1", f"{BLOCK}/attention_norm_0"),
    *(
        Rule(
            f"h.{{i}}.attn.c_attn.{theirs}",
            tuple(f"{ATTEND}/{part}/{ours}" for part in ("query", "key", "value")),
            layout,
        )
        for theirs, ours, layout in (
            ("weight", "kernel", "d (n h k) -> n d h k"),
            ("bias", "bias", "(n h k) -> n h k"),
        )
    ),
    Rule("h.{i}.attn.c_proj.weight", f"{ATTEND}/out/kernel", "(h k) d -> h k d"),
    Rule("h.{i}.attn.c_proj.bias", f"{ATTEND}/out/bias"),
    *norm("h.{i}.ln_2", f"{BLOCK}/mlp_norm"),
    *(
        Rule(f"h.{{i}}.mlp.{theirs}.{name}", f"{BLOCK}/{ours}/{part}")
        for theirs, ours in (("c_fc", "mlp_in"), ("c_proj", "mlp_out"))
        for name, part in (("weight", "kernel"), ("bias", "bias"))
    ),
    *norm("ln_f", f"{PART}norm"),
]
LEFT = [
    Left(r"wte\.weight|lm_head\.weight", "words, of which a clip has none"),
    Left(r"h\.\d+\.attn\.(masked_)?bias", "the causal mask, which is no weight"),
]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody published.
    """
    for name, value in PUBLISHED.items():
        folder.check(name, value)
    heads = folder.get("n_head")
    return Found(
        where=folder.where,
        model={
            "name": "frame_model",
            "time": "gpt2",
            "time_width": folder.get("n_embd"),
            "time_depth": folder.get("n_layer"),
            "time_heads": heads,
        },
        objective={"name": "encode"},
        data={"frames": folder.get("n_positions"), "image_size": SIDE},
        arrays=folder.arrays,
        rules=RULES,
        sizes={"h": heads},
        left=LEFT,
        part=PART,
    )
