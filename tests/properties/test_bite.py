"""The laws bite: every small change of a bound is refuted by the law that holds it.

A mutant is refuted where it is broken by some chain of a fixed pool, where it is no longer attained by a chain that
attains the bound, or where it no longer says anything of a chain that the bound speaks of.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import theory
import theory.bounds._cone_step
import theory.bounds.blocks
import theory.bounds.certificate
import theory.bounds.cone
import theory.bounds.frames
import theory.bounds.growth
import theory.bounds.perturbation
import theory.bounds.products
import theory.bounds.rates
from tests.properties.examples import Example
from tests.properties.laws import LAWS
from tests.properties.mutation import Mutant, mutants
from tests.properties.recipes import CHOICES, FAMILIES, Recipe, build
from tests.properties.sharp import EDGES, SHARP, Sharp, plane
from tests.properties.verdicts import Law, Verdict
from theory.propagation.reduction import log_singular_values

GROUPS = {
    "max_rate": (theory.bounds.rates, ("max_rate",), ("T5",)),
    "min_rate": (theory.bounds.rates, ("min_rate",), ("T6",)),
    "log_product_upper": (theory.bounds.products, ("log_product_upper",), ("T8",)),
    "log_product_lower_uniform": (theory.bounds.products, ("log_product_lower_uniform",), ("T9 uniform",)),
    "log_product_lower_closed": (theory.bounds.products, ("log_product_lower_closed",), ("T9 closed",)),
    "log_product_lower": (theory.bounds.products, ("log_product_lower", "cone_margins"), ("T9 by layer",)),
    "log_product_ratio_upper": (theory.bounds.products, ("log_product_ratio_upper", "cone_margins"), ("T10",)),
    "perturbation_error": (theory.bounds.perturbation, ("perturbation_error", "_bound"), ("T12",)),
    "log_perturbation_error_by_columns": (
        theory.bounds.perturbation,
        ("log_perturbation_error_by_columns",),
        ("T31",),
    ),
    "context_norm_bound": (theory.bounds.products, ("context_norm_bound", "regime_one_rate"), ("T13",)),
    "regime_rates": (theory.bounds.certificate, ("regime_rates",), ("T14 slow", "T14 fast")),
    "log_product_growth": (theory.bounds.growth, ("log_product_growth", "weighted_rate"), ("T28",)),
    "certify_blocks": (theory.bounds.blocks, ("_joined", "join_blocks"), ("T17",)),
    "certify_frames": (theory.bounds.frames, ("certify_frames", "_improved", "_split"), ("T25",)),
    "certify": (
        theory.bounds.certificate,
        ("certify", "certificate_recursion", "_largest", "_regime"),
        (
            "T15 lower",
            "T15 upper",
            "T15 second",
            "T15 noise",
            "T16",
            "T14 label",
            "T15 upper, Frobenius",
            "T15 noise, Frobenius",
        ),
    ),
}
"""By entry point: its module, the functions that are mutated, and the laws that must refute every mutant."""

EQUIVALENT = {
    "max_rate: 1 -> 0.98, in safe = xp.where(under > 0, under, 1)": "the value where under = 0 is never used",
    "max_rate: 1 -> 1.02, in safe = xp.where(under > 0, under, 1)": "the same",
    "max_rate: kappa -> xi, in return _scalar(xp.clip(rate, kappa, 1))": "the rate is above xi too",
    "max_rate: 1 -> 1.02, in return _scalar(xp.clip(rate, kappa, 1))": "the rate is at most 1, but for its last bit",
    "min_rate: 1 -> 1.02, in critical = xp.minimum(2 * xp.sqrt(xi) / (1 + xi), 1)": "kappa_c is at most 1",
    "min_rate: 1 -> 0.98, in safe = xp.where(under > 0, under, 1)": "the value where under = 0 is never used",
    "min_rate: 1 -> 1.02, in safe = xp.where(under > 0, under, 1)": "the same",
    "min_rate: 0.7 -> 0.686, in under = xp.maximum(xp.where(kappa < 0.7, near_critical, near_one), 0)": (
        "two ways to compute one number; the constant only chooses the more precise"
    ),
    "min_rate: 0.7 -> 0.714, in under = xp.maximum(xp.where(kappa < 0.7, near_critical, near_one), 0)": "the same",
    "log_product_growth: np.max(gaps[1:]) -> min, in candidates = "
    "{float(np.max(gaps)), float(np.max(gaps[1:])), math.exp(float(np.mean(np.log(positive))))}": (
        "another weight is tried, and every weight gives a bound"
    ),
    "_largest: first - second -> first, in best = first if (first - second).fraction > 0 else second": (
        "the two are never positive together: their sum is at most sigma (kappa (p- - p+) - 2 s q+) <= 0"
    ),
}
"""Mutants that compute the same bound, with the reason."""


@functools.cache
def pool() -> tuple[Example, ...]:
    """Random chains of every family and mode, and signed plane chains, the same in every run."""
    rng = np.random.default_rng(20260)
    examples = list(EDGES)
    for index in range(220):
        examples.append(
            build(
                Recipe(
                    family=FAMILIES[index % len(FAMILIES)],
                    seed=int(rng.integers(2**32)),
                    depth=int(rng.integers(1, 7)),
                    dimension=int(rng.integers(1, 6)),
                    context=int(rng.integers(1, 4)),
                    alignment=float(rng.random()),
                    gap=float(rng.random()),
                    **{name: str(rng.choice(values)) for name, values in CHOICES.items()},
                )
            )
        )
    for _ in range(60):
        depth = int(rng.integers(1, 5))
        examples.append(
            plane(
                rng.uniform(0.3, 1, depth).tolist(),
                rng.uniform(0, 0.6, depth).tolist(),
                sense=rng.choice([-1.0, 1.0], depth).tolist(),
                sigma=rng.uniform(0.5, 1.5, depth).tolist(),
                injections=(rng.uniform(-1, 1, (depth, 2)) * rng.choice([0, 1, 1], (depth, 1))).tolist(),
            )
        )
    return tuple(examples)


@functools.cache
def conical() -> tuple[Example, ...]:
    """Chains that keep a cone, with injections that are coherent in part: what (T27) is about."""
    rng = np.random.default_rng(20261)
    families = ("flat", "twisted slowest", "twisted mixed", "varying by layer")
    return tuple(
        build(
            Recipe(
                family=families[index % len(families)],
                seed=int(rng.integers(2**32)),
                depth=int(rng.integers(2, 5)),
                dimension=int(rng.integers(2, 5)),
                context=int(rng.integers(2, 4)),
                alignment=float(rng.uniform(0.7, 1)),
                gap=float(rng.uniform(0, 0.3)),
                sigma_mode=("one", "varying")[index % 2],
                injection_mode=("leaning", "random", "adversarial", "coherent", "first")[index % 5],
            )
        )
        for index in range(100)
    )


@functools.cache
def reference(tag: str) -> tuple[Verdict | None, ...]:
    return tuple(LAWS[tag].slack(example) for example in pool_of(tag))


def pool_of(tag: str) -> tuple[Example, ...]:
    return conical() if tag.startswith("T27") else pool()


def total_slack(sharp: Sharp, law: Law, bound: Callable[..., Any] | None = None) -> float:
    """The weighted slack; inf where the law says nothing, -inf where it is broken."""
    verdicts = [(weight, law.slack(example, bound)) for weight, example in sharp.terms]
    if any(verdict is not None and verdict.violated for _, verdict in verdicts):
        return -math.inf
    return sum(math.inf if verdict is None else weight * verdict.slack for weight, verdict in verdicts)


def refutation(mutant: Mutant, tags: tuple[str, ...]) -> tuple[str, str] | None:
    """Law and manner of the first refutation, or None."""
    bound = mutant.function
    if tags[0].startswith("T27"):
        bound = functools.lru_cache(maxsize=None)(bound)  # eight laws read one certificate
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            for tag in tags:
                law = LAWS[tag]
                for sharp in SHARP.get(tag, ()):
                    slack = total_slack(sharp, law, bound)
                    if not abs(slack) <= sharp.tolerance:
                        return tag, "unsound" if slack < 0 else "no longer attained"
            for tag in tags:
                law = LAWS[tag]
                for example, known in zip(pool_of(tag), reference(tag), strict=True):
                    verdict = law.slack(example, bound)
                    if verdict is not None and verdict.violated:
                        return tag, "unsound"
                    if verdict is None and known is not None and known.resolved:
                        return tag, "silent"
        except (ArithmeticError, ValueError, TypeError, IndexError, AttributeError) as error:
            return tag, f"fails: {type(error).__name__}"
    return None


@pytest.mark.parametrize("tag", SHARP)
def test_the_named_chains_attain_the_bound(tag: str) -> None:
    for sharp in SHARP[tag]:
        assert abs(total_slack(sharp, LAWS[tag])) <= sharp.tolerance, sharp.name


@pytest.mark.parametrize("entry", GROUPS)
def test_every_mutant_of_a_bound_is_refuted_by_its_laws(entry: str) -> None:
    module, targets, tags = GROUPS[entry]
    survivors = {mutant.name for mutant in mutants(module, targets, entry) if refutation(mutant, tags) is None}
    assert survivors == {name for name in EQUIVALENT if name.startswith(tuple(f"{target}: " for target in targets))}


CONE_FIELDS = (
    "log_norm_upper",
    "log_sigma2_upper",
    "log_across_upper",
    "log_noise_ratio_upper",
    "log_rank_one_error",
    "log_tilt",
    "log_drift",
)
CONE_STATEMENTS = ("lower =", "margin =", "grow =", "kept =", "outward =", "tilt =")
T27 = tuple(tag for tag in LAWS if tag.startswith("T27"))


def test_a_mutant_of_what_moves_the_cone_is_refuted_or_only_loosens() -> None:
    """(T27) takes the best of several bounds, none of which many chains attain; so what only loosens is let pass."""
    refuted = loosened = 0
    for mutant in mutants(theory.bounds._cone_step, ("advance",), "certify_cone", theory.bounds.cone):
        if not mutant.name.split(", in ")[-1].startswith(CONE_STATEMENTS):
            continue
        if refutation(mutant, T27) is not None:
            refuted += 1
            continue
        loosened += 1
        for example in conical():
            ours, theirs = theory.certify_cone(example.parameters), mutant.function(example.parameters)
            assert theirs.log_norm_lower <= ours.log_norm_lower + 1e-9, mutant.name
            for name in CONE_FIELDS:
                # rounding of a step, magnified by a cone's slope; the outward factor of the code is 1e-15 itself
                assert getattr(theirs, name) >= getattr(ours, name) - 1e-9, (mutant.name, name)
    assert refuted > 2 * loosened > 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w, gap, sigma: log_singular_values(w, 0.98 * gap, sigma),
        lambda w, gap, sigma: log_singular_values(w, gap, 1.02 * sigma),
        lambda w, gap, sigma: log_singular_values(w[:, ::-1], gap, sigma),
    ],
    ids=["gap 2 % down", "sigma 2 % up", "layers reversed"],
)
def test_the_identity_T24_refutes_what_is_not_it(wrong: Callable[..., Any]) -> None:
    verdicts = [LAWS["T24"].slack(example, wrong) for example in pool()]
    assert any(verdict is not None and verdict.violated for verdict in verdicts)


@pytest.mark.parametrize(("entry", "tag"), [(entry, tag) for entry, group in GROUPS.items() for tag in group[2]])
def test_each_law_refutes_some_mutant_by_itself(entry: str, tag: str) -> None:
    module, targets, _ = GROUPS[entry]
    assert any(refutation(mutant, (tag,)) for mutant in mutants(module, targets, entry))
