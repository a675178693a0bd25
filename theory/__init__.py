"""Synthetic chains, sharp rates, certificates and sweeps of the Spectral Sensitivity Theorem."""

from theory.attack.checkpoint import OtherAttackError
from theory.attack.search import AttackResult, attack
from theory.attack.spec import AttackSpec
from theory.bounds.blocks import BlockCertificate, BlockTable, certify_blocks, coarse_grain
from theory.bounds.certificate import Certificate, certify
from theory.bounds.cone import ConeCertificate, certify_cone
from theory.bounds.evaluate import evaluate_bounds
from theory.bounds.frames import FrameCertificate, certify_frames, frames_of
from theory.bounds.hypotheses import BoundResult, Hypothesis
from theory.bounds.perturbation import perturbation_error
from theory.bounds.products import (
    context_norm_bound,
    log_product_lower,
    log_product_lower_closed,
    log_product_lower_uniform,
    log_product_ratio_upper,
    log_product_upper,
)
from theory.bounds.rates import critical_alignment, first_order_error, max_rate, min_rate
from theory.chains.adversarial import inject_adversarial
from theory.chains.aligned_residual import aligned_residual_chain, inject_written
from theory.chains.alignment import mean_random_alignment, measured_random_alignment
from theory.chains.chain import Chain, measure
from theory.chains.ensembles import gaussian_chain, orthogonal_chain
from theory.chains.factored import Factored
from theory.chains.flat import flat_chain, profile_chain
from theory.chains.generate import make_chain
from theory.chains.injections import inject_coherent, inject_none, inject_random
from theory.chains.layers import chain_of_layers, residual_chain_of
from theory.chains.low_rank import low_rank_chain
from theory.chains.residual import residual_chain
from theory.chains.storage import load_chain, save_chain
from theory.chains.twisted import twisted_chain
from theory.claims.bounded import check_p2
from theory.claims.chance import check_p4
from theory.claims.check import ClaimCheck
from theory.claims.collapse import check_p3
from theory.claims.lemma import check_p1
from theory.claims.training import check_c5
from theory.counterexamples.collection import counterexamples
from theory.counterexamples.record import Counterexample
from theory.counterexamples.residual import (
    ResidualMeanSquare,
    residual_log_growth,
    residual_log_growth_bounds,
    residual_mean_square,
)
from theory.phase.areas import CertifiedAreas, certified_areas, misjudged_areas, resolved_areas
from theory.phase.critical import CriticalGain, critical_product_gain, predicted_gain
from theory.phase.critical_context import PhaseThresholds, critical_context_gain
from theory.phase.critical_residual import CriticalStrength, critical_strength, predicted_strength
from theory.phase.early_moments import EarlyMoments, dispersive_excess, dispersive_width, early_moments
from theory.phase.finite_size import crossover_widths, finite_size
from theory.phase.judging import Verdict
from theory.phase.limit_product import LimitProduct, limit_product
from theory.phase.offsets import boundary_offsets, random_offset
from theory.phase.onset import certified_onset, context_onset, product_onset, typical_onset
from theory.phase.rank_one import rank_one
from theory.phase.residual_map import residual_phases, residual_verdicts
from theory.phase.tables import phase_tables
from theory.phase.verdicts import verdicts
from theory.propagation.depth import JacobianProfile, depth_profile, jacobian_profile
from theory.propagation.floored import Floored
from theory.propagation.path import DominantPath, dominant_path
from theory.propagation.recurrence import context_jacobians, context_jacobians_and_products, products
from theory.propagation.reduction_in_law import ReducedJacobians, reduced_jacobians
from theory.propagation.scaled import Scaled
from theory.propagation.spectrum import LogSpectrum, log_singular_values, lyapunov_exponents
from theory.regimes.boundaries import boundary_curves
from theory.regimes.predictions import RegimePrediction, certified_regime, mean_field, paper_rule
from theory.regimes.residual_moments import ResidualMoments, residual_moments
from theory.regimes.residual_rates import ResidualRates, residual_rates
from theory.regimes.thresholds import PaperThresholds
from theory.regimes.typical import (
    crossover_width,
    newman_exponents,
    typical_across_over_along,
    typical_growth,
    typical_log_ratio,
)
from theory.simulators.cells import PhaseCells
from theory.simulators.choose import Choice
from theory.simulators.residual import residual_spectra
from theory.simulators.residual_cells import ResidualCells
from theory.simulators.simulate import Simulation, simulate
from theory.simulators.spectra import ContextSpectra, context_spectra
from theory.sweeping.plan import SweepPlan, SweepTooLargeError, plan_sweep
from theory.sweeping.spec import Injection, ResidualSweepSpec, SweepSpec, default_sweep
from theory.sweeping.store import OtherSweepError
from theory.sweeping.studies import STUDY_QUESTIONS, studies
from theory.sweeping.sweep import sweep
from theory.training.balance import imbalance, misalignment_bound
from theory.training.spec import TrainingSpec
from theory.training.trajectory import Trajectory, train

__all__ = [
    "STUDY_QUESTIONS",
    "AttackResult",
    "AttackSpec",
    "BlockCertificate",
    "BlockTable",
    "BoundResult",
    "Certificate",
    "CertifiedAreas",
    "Chain",
    "Choice",
    "ClaimCheck",
    "ConeCertificate",
    "ContextSpectra",
    "Counterexample",
    "CriticalGain",
    "CriticalStrength",
    "DominantPath",
    "EarlyMoments",
    "Factored",
    "Floored",
    "FrameCertificate",
    "Hypothesis",
    "Injection",
    "JacobianProfile",
    "LimitProduct",
    "LogSpectrum",
    "OtherAttackError",
    "OtherSweepError",
    "PaperThresholds",
    "PhaseCells",
    "PhaseThresholds",
    "ReducedJacobians",
    "RegimePrediction",
    "ResidualCells",
    "ResidualMeanSquare",
    "ResidualMoments",
    "ResidualRates",
    "ResidualSweepSpec",
    "Scaled",
    "Simulation",
    "SweepPlan",
    "SweepSpec",
    "SweepTooLargeError",
    "TrainingSpec",
    "Trajectory",
    "Verdict",
    "aligned_residual_chain",
    "attack",
    "boundary_curves",
    "boundary_offsets",
    "certified_areas",
    "certified_onset",
    "certified_regime",
    "certify",
    "certify_blocks",
    "certify_cone",
    "certify_frames",
    "chain_of_layers",
    "check_c5",
    "check_p1",
    "check_p2",
    "check_p3",
    "check_p4",
    "coarse_grain",
    "context_jacobians",
    "context_jacobians_and_products",
    "context_norm_bound",
    "context_onset",
    "context_spectra",
    "counterexamples",
    "critical_alignment",
    "critical_context_gain",
    "critical_product_gain",
    "critical_strength",
    "crossover_width",
    "crossover_widths",
    "default_sweep",
    "depth_profile",
    "dispersive_excess",
    "dispersive_width",
    "dominant_path",
    "early_moments",
    "evaluate_bounds",
    "finite_size",
    "first_order_error",
    "flat_chain",
    "frames_of",
    "gaussian_chain",
    "imbalance",
    "inject_adversarial",
    "inject_coherent",
    "inject_none",
    "inject_random",
    "inject_written",
    "jacobian_profile",
    "limit_product",
    "load_chain",
    "log_product_lower",
    "log_product_lower_closed",
    "log_product_lower_uniform",
    "log_product_ratio_upper",
    "log_product_upper",
    "log_singular_values",
    "low_rank_chain",
    "lyapunov_exponents",
    "make_chain",
    "max_rate",
    "mean_field",
    "mean_random_alignment",
    "measure",
    "measured_random_alignment",
    "min_rate",
    "misalignment_bound",
    "misjudged_areas",
    "newman_exponents",
    "orthogonal_chain",
    "paper_rule",
    "perturbation_error",
    "phase_tables",
    "plan_sweep",
    "predicted_gain",
    "predicted_strength",
    "product_onset",
    "products",
    "profile_chain",
    "random_offset",
    "rank_one",
    "reduced_jacobians",
    "residual_chain",
    "residual_chain_of",
    "residual_log_growth",
    "residual_log_growth_bounds",
    "residual_mean_square",
    "residual_moments",
    "residual_phases",
    "residual_rates",
    "residual_spectra",
    "residual_verdicts",
    "resolved_areas",
    "save_chain",
    "simulate",
    "studies",
    "sweep",
    "train",
    "twisted_chain",
    "typical_across_over_along",
    "typical_growth",
    "typical_log_ratio",
    "typical_onset",
    "verdicts",
]
