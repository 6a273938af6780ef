"""HowTo100M, and any other folder of videos without labels, to pretrain on."""

from vivit_jax.data.known.kind import Known

HOWTO100M = Known(
    name="howto100m",
    title="HowTo100M, or any tree of videos without labels",
    home="https://www.di.ens.fr/willow/research/howto100m/",
    terms="Each video is its uploader's; 1.22 million of YouTube, of which many are gone.",
    layout="""\
DIR/
  any/folders/ID.mp4       all are read; data.holdout of them, or a folder val beside one called
                           train, are held out""",
    judged="nothing: there are no labels; give evaluators other videos",
    labels="none",
)
