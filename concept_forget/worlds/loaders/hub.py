"""A data set's folder: one on this machine, or a data set of the hub, downloaded once."""

from __future__ import annotations

import re
from pathlib import Path

from concept_forget.worlds.loaders.rows import BadDataError

FILES = ("*.json", "*.jsonl", "*.csv")


def data_folder(source: str | Path) -> Path:
    """The folder `source`, or the files of the data set OWNER/NAME of the hub.

    RWKU and TOFU are published there in the very files that are read here. Raises BadDataError when it is neither.
    """
    folder = Path(source).expanduser()
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), repo_type="dataset", allow_patterns=list(FILES)))
    except Exception as error:  # noqa: BLE001 (the hub's errors are of many kinds, and none of this program's)
        first = str(error).strip().split("\n", 1)[0]
        raise BadDataError(
            f"{source} is no folder here, and not a data set of the hub that can be reached from here. ({first})"
        ) from error
