"""A model by its hub id: from the local cache, else from the hub, and quickly no where there is no network."""

from __future__ import annotations

import os
import re
from pathlib import Path

PROBE_S = 5.0
"""Longest wait for the hub's first answer, seconds."""

_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_SMALL = ["*.json", "*.txt"]
_SAFETENSORS = ["model.safetensors", "model-*.safetensors"]
_PICKLES = ["pytorch_model.bin", "pytorch_model-*.bin"]


class HubError(OSError):
    """A model that could not be fetched.

    Attributes:
        reached: whether the hub answered at all.
    """

    def __init__(self, message: str, *, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


def looks_like_id(ref: str) -> bool:
    """Whether a string can be the id of a model on the hub: owner/name, and no path."""
    return bool(_ID.match(ref))


def fetch(ref: str, revision: str | None = None) -> Path:
    """The directory of a model of the hub, from the local cache if it is there.

    One request that may take `PROBE_S` decides whether there is a network, so that nobody waits through retries.

    Raises:
        HubError: if the model is in no cache and cannot be had.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

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
                revision=revision,
                endpoint=endpoint,
                allow_patterns=[*_SMALL, *weights],
                etag_timeout=PROBE_S,
            )
        )
    except OfflineModeIsEnabled:
        raise HubError("offline mode is set by HF_HUB_OFFLINE", reached=False) from None
    except HfHubHTTPError as error:
        raise HubError(_line(error), reached=True) from None
    except Exception as error:  # the HTTP client's own errors have no common base that outlives its versions
        raise HubError(_line(error), reached=False) from None


def _cached(ref: str, revision: str | None) -> Path | None:
    """The model's directory in the local cache if its config and weights are there."""
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(ref, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    weights = any(path.glob("model*.safetensors")) or any(path.glob("pytorch_model*.bin"))
    return path if weights and (path / "config.json").is_file() else None


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return (lines[0][:160] or type(error).__name__).rstrip(". ")
