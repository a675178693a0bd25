"""Figures: pure functions from records to matplotlib figures, each wide or narrow."""

from bridge.reporting.figures.activations import changes_by_layer, clouds, error_rates, tail_ratios
from bridge.reporting.figures.depth import arrival, context_spectra, layer_profiles
from bridge.reporting.figures.observed import certificate_gap, regime_plane
from bridge.reporting.figures.phase import phase_map
from bridge.reporting.figures.style import save, svg_of
from bridge.reporting.figures.training import training_curves, training_effects

__all__ = [
    "arrival",
    "certificate_gap",
    "changes_by_layer",
    "clouds",
    "context_spectra",
    "error_rates",
    "layer_profiles",
    "phase_map",
    "regime_plane",
    "save",
    "svg_of",
    "tail_ratios",
    "training_curves",
    "training_effects",
]
