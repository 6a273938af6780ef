r"""Fine-tunes published weights, or those of another run, on your own videos.

    python -m vivit_jax.main --config configs/finetune.py:hf:DIR --workdir runs/mine \
        --config.data.root=DIR

The argument is what config.init_from is: FAMILY:PATH (vivit_jax/pretrained/__init__.py lists them),
or a workdir. The model, its clips and the colours it knows are read from there. An image model
sees 16 frames: a ViT becomes a factorised encoder, and a ResNet gives each frame to an LSTM. What
masked pixels pretrained is judged by the norm of its mean, as VideoMAE's fine-tuning has it, and
what latent prediction pretrained by an attentive pooler, as V-JEPA's. The numbers of the optimiser
are VideoMAE's for ViT-B, shortened: a start, and not a recipe of a paper.
"""

from vivit_jax import trained
from vivit_jax.errors import InputError
from vivit_jax.recipe import experiment

CLIP = ("frames", "stride", "fps", "sampling", "short_videos", "image_size")


def get_config(source: str = ""):
    """Returns the experiment."""
    if not source:
        raise InputError("expected configs/finetune.py:SOURCE, such as configs/finetune.py:hf:DIR.")
    before = trained.find(source).experiment
    clip = {name: getattr(before.data, name) for name in CLIP}
    model = {**before.model, "drop_path": 0.1}
    objective = {"name": "classify", "label_smoothing": 0.1}
    of_frames = model["name"] == "frame_model"
    if clip["frames"] == 1:
        clip |= {"frames": 16, "stride": 4}
        model |= {"time": "lstm"} if of_frames else inflated(model)
    if before.objective["name"] == "masked_pixels" and model["attention"] == "joint":
        model["norm_summary"] = True
    if before.objective["name"] == "latent_prediction":
        objective["pooling"] = "attentive"
    return experiment(
        data=dict(batch_size=16, crop_area=(0.4, 1.0), **clip),
        augment=dict(colour_jitter=0.8),
        model=model,
        objective=objective,
        optim=dict(
            learning_rate=5e-4,
            per_videos=256,
            warmup=2.0,
            weight_decay=0.05,
            layer_decay=1.0 if of_frames and model["frame"] != "vit" else 0.75,
            clip=1.0,
        ),
        train=dict(epochs=20.0, log_every=20, checkpoint_every=200),
        eval=dict(clips=4, crops=1, resize=before.eval.resize),
        init_from=source,
    )


def inflated(model):
    """Returns what changes in an image model that is to see clips."""
    return {
        "attention": "factorised_encoder",
        "tubelet": (2, *model["tubelet"][1:]),
        "tubelet_init": "central_frame",
    }
