"""Package and dependencies; every minimum is a version that the tests ran on."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent
SEARCH = ["faiss-cpu>=1.15"]  # of more than a million windows, without reading them all
PARITY = ["torch>=2.13", "transformers>=5.9"]

setuptools.setup(
    name="vivit_jax",
    version="0.1.0",
    description="Video transformers in JAX: training, evaluation, prediction from real video files",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["vivit_jax", "vivit_jax.*"]),
    package_data={
        "vivit_jax.data.known": ["labels/*.txt"],
        "vivit_jax.page": ["report.css", "report.js"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8.6",  # records; tensorflow-datasets brings it on Linux
        "av>=18.1",
        "clu>=0.0.12",
        "einops>=0.8.1",
        "etils[epath]>=1.15",  # records on remote file systems; orbax brings it
        "flax>=0.12.8",
        "importlib_resources>=6",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10.2",
        "jaxtyping>=0.3",
        "matplotlib>=3.10",
        "ml-collections>=1.1",
        "ml_dtypes>=0.5",  # bfloat16 in files; jax brings it
        "numpy>=2.1",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=13",  # JPEG frames of records; matplotlib brings it
        "pyyaml>=6",  # what PySlowFast's files tell of themselves; ml-collections brings it
        "scipy>=1.15",  # k-d trees, to find duplicates; jax brings it
        "safetensors>=0.6.1",  # the format of most published weights; numpy is all that it needs
        "tensorboard>=2.20",  # clu needs it and does not say so
        "tensorflow-cpu>=2.21; sys_platform == 'linux'",  # tf.data only: the accelerator is JAX's
        "tensorflow>=2.21; sys_platform != 'linux'",
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "test": [
            "beartype>=0.20",
            "pytest>=8.4",
            "pytest-xdist>=3.8",
            "scikit-learn>=1.7",
            *SEARCH,
        ],
        "parity": PARITY,
        "lint": ["pre-commit>=4", "pyright[nodejs]==1.1.414", "ruff==0.17.5"],  # each finds more
        "search": SEARCH,
        "beam": ["apache-beam>=2.77"],  # building records on more than one machine
        "gpu": ["jax[cuda13]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
    },
)
