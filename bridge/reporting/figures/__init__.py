"""Figures: pure functions from records to matplotlib figures, each wide or narrow."""

from bridge.reporting.figures.activations import changes_by_layer, clouds, error_rates, tail_ratios
from bridge.reporting.figures.areas import resolved_coexistence
from bridge.reporting.figures.boundary import boundary_along, context_map
from bridge.reporting.figures.collapse import width_collapse
from bridge.reporting.figures.depth import arrival, context_spectra, layer_profiles
from bridge.reporting.figures.hypotheses import hypotheses_by_block, subspace_overlaps
from bridge.reporting.figures.injections import injection_map
from bridge.reporting.figures.observed import certificate_gap, regime_plane
from bridge.reporting.figures.phase import phase_map
from bridge.reporting.figures.ratio import singular_ratio
from bridge.reporting.figures.residual import residual_growth, residual_map
from bridge.reporting.figures.style import save, svg_of
from bridge.reporting.figures.sweeps import sweep_figures
from bridge.reporting.figures.training import training_curves, training_effects

__all__ = [
    "arrival",
    "boundary_along",
    "certificate_gap",
    "changes_by_layer",
    "clouds",
    "context_map",
    "context_spectra",
    "error_rates",
    "hypotheses_by_block",
    "injection_map",
    "layer_profiles",
    "phase_map",
    "regime_plane",
    "residual_growth",
    "residual_map",
    "resolved_coexistence",
    "save",
    "singular_ratio",
    "subspace_overlaps",
    "svg_of",
    "sweep_figures",
    "tail_ratios",
    "training_curves",
    "training_effects",
    "width_collapse",
]
