"""What must never be written down."""

import pathlib

SECRET = "canary-7f3a9c"
_NAMES = ("TOKEN", "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SECRETS = dict.fromkeys((*_NAMES, "GITHUB_TOKEN", "GOOGLE_API_KEY", "MY_PASSWORD"), SECRET)


def told(folder: pathlib.Path, *logs: str) -> list[str]:
    """Returns the files below a folder, and the logs, that hold the secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any("checkpoints" in str(path) for path in files)
    found = [str(path) for path in files if SECRET.encode() in path.read_bytes()]
    return found + [log for log in logs if SECRET in log]
