"""Synthetic chains, sharp rates, certificates and sweeps of the Spectral Sensitivity Theorem."""

from theory.certificate import Certificate, certify
from theory.perturbation import perturbation_error
from theory.predictions import RegimePrediction, certified_regime, mean_field, paper_rule
from theory.rates import critical_alignment, first_order_error, max_rate, min_rate

__all__ = [
    "Certificate",
    "RegimePrediction",
    "certified_regime",
    "certify",
    "critical_alignment",
    "first_order_error",
    "max_rate",
    "mean_field",
    "min_rate",
    "paper_rule",
    "perturbation_error",
]
