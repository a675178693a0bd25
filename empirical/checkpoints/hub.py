"""A model by its hub id: from the local cache, else from the hub, and quickly no where there is no network."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

PROBE_S = 5.0
"""Longest wait for the hub's first answer, seconds."""

_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_REVISION = re.compile(r"^[\w.-]+(/[\w.-]+)*$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SMALL = ["*.json", "*.txt"]
_SAFETENSORS = ["model.safetensors", "model-*.safetensors"]
_PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin"]
_NEEDED = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)


class HubError(OSError):
    """A model that could not be fetched.

    Attributes:
        reached: whether the hub answered at all.
        revision: whether it has the model, and not in this revision.
    """

    def __init__(self, message: str, *, reached: bool, revision: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.revision = revision


def looks_like_id(ref: str) -> bool:
    """Whether a string can be the id of a model on the hub: owner/name, and no path."""
    return bool(_ID.match(ref))


def split_revision(ref: str) -> tuple[str, str | None]:
    """ "owner/name@revision" as id and revision; None for the revision of an id without one."""
    name, at, revision = ref.partition("@")
    return (name, revision) if at and _REVISION.match(revision) else (ref, None)


def commit_of(directory: Path) -> str:
    """The commit that a directory of the cache holds, which is named after it; "" if it is no such directory."""
    return directory.name if directory.parent.name == "snapshots" and _COMMIT.match(directory.name) else ""


def fetch(ref: str, revision: str | None = None) -> Path:
    """The directory of a model of the hub, from the local cache if it is there.

    One request that may take `PROBE_S` decides whether there is a network, so that nobody waits through retries.

    Raises:
        HubError: if the model is in no cache and cannot be had.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = os.environ.get("HF_ENDPOINT")
    cached = _cached(ref, revision)
    if cached is not None:
        return cached
    try:
        info = HfApi(endpoint=endpoint).model_info(ref, revision=revision, timeout=PROBE_S)
        names = [sibling.rfilename for sibling in info.siblings or []]
        weights = _SAFETENSORS if any(name.endswith(".safetensors") for name in names) else _PICKLES
        return Path(
            snapshot_download(
                ref,
                revision=info.sha or revision,  # what was asked about, should a branch move on meanwhile
                endpoint=endpoint,
                allow_patterns=[*_SMALL, *weights],
                etag_timeout=PROBE_S,
            )
        )
    except OfflineModeIsEnabled:
        here = f"; the local cache has other revisions of it: {', '.join(have)}" if (have := _commits(ref)) else ""
        raise HubError(f"offline mode is set by HF_HUB_OFFLINE{here}", reached=False) from None
    except RevisionNotFoundError:
        raise HubError(f"the hub has no revision {revision!r} of it", reached=True, revision=True) from None
    except GatedRepoError:
        raise HubError("its owner gives it out on request only; log in with 'hf auth login'", reached=True) from None
    except RepositoryNotFoundError:
        raise HubError("the hub knows no such model, or it is a private one", reached=True) from None
    except HfHubHTTPError as error:
        raise HubError(_line(error), reached=True) from None
    except Exception as error:  # the HTTP client's own errors have no common base that outlives its versions
        raise HubError(_line(error), reached=False) from None


def _cached(ref: str, revision: str | None) -> Path | None:
    """The model's directory in the local cache if all files of a checkpoint are there."""
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(ref, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    return path if all(any((path / name).is_file() for name in names) for names in _NEEDED) and _whole(path) else None


def _whole(path: Path) -> bool:
    """Whether the weights are there: in one file, or each of those that an index names."""
    for index in path.glob("*.index.json"):
        try:
            parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            continue  # loading says what is wrong with it
        if parts and all((path / part).is_file() for part in parts):
            return True
    return (path / "model.safetensors").is_file() or (path / "pytorch_model.bin").is_file()


def _commits(ref: str) -> list[str]:
    """The commits of a model that are in the local cache, whole or in part."""
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{ref.replace('/', '--')}" / "snapshots"
    return sorted(each.name for each in snapshots.glob("*")) if snapshots.is_dir() else []


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return (lines[0][:160] or type(error).__name__).rstrip(". ")
