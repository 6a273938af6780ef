r"""MAE-ST (Feichtenhofer et al. 2022): masked pretraining, by the numbers of the mae_st release.

    python -m vivit_jax.main --config configs/mae_st_pretrain.py:L --workdir DIR \
        --config.data.train_list=train.csv --config.data.labels=none

The argument is B, L or H; `,smoke` after it runs it in a minute on videos made here. Where the two
releases differ (mae_st, and PySlowFast, which trained the released weights), this takes mae_st's
schedule (100 epochs of four clips a video, where PySlowFast has 200), its linearly spread target
frames, and PySlowFast's decoder heads (8, as in the released weights; mae_st has 16). mae_st's
command leaves the number of machines open: the batch is the paper's 512, counted as its code scales
the learning rate, in videos. Slots' positions start at zero, where the release draws them.
"""

from vivit_jax.recipe import choose_row, experiment, smoke

SIZES = {"B": "B", "L": "L", "H": "H"}  # H with patches of 16, as PySlowFast trained it


def get_config(argument: str = "L"):
    """Returns the experiment."""
    size, small = choose_row(argument, SIZES)
    config = experiment(
        data=dict(
            batch_size=512,
            repeats=4,
            frames=16,
            stride=4,
            short_videos="hold",
            image_size=224,
            crop="random_resized",
            crop_area=(0.5, 1.0),
            crop_aspect=(0.75, 1.3333),
        ),
        augment=dict(flip=0.5),
        model=dict(
            name="video_transformer",
            size=size,
            tubelet=(2, 16, 16),
            pool="class_token",
            positions="separable",
            gelu="erf",
            dtype="bfloat16",
            remat="full" if size == "H" else "none",
            mean=(0.45, 0.45, 0.45),
            std=(0.225, 0.225, 0.225),
        ),
        objective=dict(
            name="masked_pixels",
            mask="random",
            mask_ratio=0.9,
            target_frames="linspace",
            target_normalised="all",
            decoder_width=512,
            decoder_heads=8,
            decoder_depth=4,
            decoder_positions="separable",
            decoder_class_token=True,
            decoder_embed_bias=True,
        ),
        optim=dict(
            learning_rate=1.6e-3,
            per_videos=256,
            warmup=5.0,
            b1=0.9,
            b2=0.95,
            weight_decay=0.05,
            clip=0.02,
        ),
        train=dict(epochs=100.0),
    )
    return smoke(config) if small else config
