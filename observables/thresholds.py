"""The line between a transcript and a failed one, for those who label and those who count; imports nothing."""

from __future__ import annotations

FAILED_WER = 0.5
"""Word error rate above which a transcript counts as failed, after normalisation: the paper's filter."""
