"""Real recordings for the tests, where the checkout has them beside it (CI has; a plain clone has not)."""

import os
from pathlib import Path

import pytest


def shared_data() -> Path | None:
    """Directory with LibriSpeech/, bad_input/, odd_speech/ and non_speech/, or None.

    `SPI_SHARED_DATA` names it; otherwise `shared/data` beside the repository.
    """
    named = os.environ.get("SPI_SHARED_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    return path if path.is_dir() else None


needs_shared_data = pytest.mark.skipif(
    shared_data() is None, reason="no shared/data beside the repository and SPI_SHARED_DATA is not set"
)
