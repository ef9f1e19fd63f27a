"""Where a result comes from (versions, hashes), and files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "scikit-learn",
    "sae-lens",
    "transformer-lens",
    "tokenizers",
    "safetensors",
)


class CannotWriteError(ValueError):
    """A file could not be written (full disk, no permission, no such folder). Nothing half-written is left behind."""


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, the platform and the packages a number can depend on; packages not installed are left out."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in ("concept-forget", *PACKAGES, *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def sha256(data: bytes | str) -> str:
    """Hex SHA-256 of bytes, or of a text in UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def hash_file(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of the order of keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of named tensors: names, dtypes, shapes and every bit, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        # flatten first: a 0-d tensor cannot be viewed as bytes
        digest.update(tensor.flatten().view(dtype=torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the body ends well, and disappears when it does not.

    For writers that want a path (parquet). Missing parent folders are made. The temporary keeps the suffix of `path`,
    because some writers choose the format by it. Raises CannotWriteError when the system refuses with an OSError;
    safetensors raises an error of its own there, so give `write_atomic` the bytes of `safetensors.torch.save`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWriteError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was changed there; free some space or give "
            "another folder, then run it again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> Path:
    """Write a whole file or nothing: temporary file beside it, fsync, rename. Text is UTF-8. Returns the path."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)
