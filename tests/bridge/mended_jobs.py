"""The fake jobs without the bug: nothing is done differently but that no measurement fails."""

from __future__ import annotations

from tests.bridge.fake_jobs import gate_audio, import_libraries, inspect_model, label, list_inputs, listen, sweep
from tests.bridge.fake_jobs import measure_soundly as measure

__all__ = ["gate_audio", "import_libraries", "inspect_model", "label", "list_inputs", "listen", "measure", "sweep"]
