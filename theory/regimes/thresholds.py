"""Every threshold of the predicted regimes, in one place; the report shows how verdicts move with them."""

from __future__ import annotations

from theory.bounds.published import PaperThresholds

__all__ = ["PAPER_ALIGNMENT", "PAPER_FIRST_ORDER_ERROR", "PAPER_GAIN", "PINNED_LOG_GROWTH"]

_PAPER = PaperThresholds()

PAPER_GAIN = _PAPER.gain
"""Gain rho below which the paper's rule says Regime I (P2), and from which it may say II (P3). Dimensionless."""

PAPER_FIRST_ORDER_ERROR = _PAPER.first_order_error
"""L xi / kappa below which "L xi / kappa << 1" (P3) is taken to hold. Dimensionless."""

PAPER_ALIGNMENT = _PAPER.alignment
"""Alignment kappa above which "kappa close to 1" (P3) is taken to hold. Dimensionless."""

PINNED_LOG_GROWTH = 0.5
"""L |mean ln sigma xi_F| below which the bulk counts as pinned at growth 1 (T26). Natural-log units."""
