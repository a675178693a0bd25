"""Two products of per-layer rates that look like bounds and are none."""

from __future__ import annotations

from fractions import Fraction

from theory.bounds.hypotheses import at_least
from theory.bounds.rates import critical_alignment, max_rate, min_rate
from theory.counterexamples.exact import alignment_squared, gap_squared, matrix, product
from theory.counterexamples.record import Counterexample, chain_of_rational_layers

__all__ = ["against_products"]


def against_products() -> tuple[Counterexample, ...]:
    """prod Lambda_max(kappa_l, xi_l) is no upper bound and prod Lambda_min(kappa_l, xi_l) no lower one.

    With xi = sup xi_l in every factor both are bounds: (T8), and its mirror for kappa_l >= kappa_c(xi).
    """
    return (_upper(), _lower())


def _upper() -> Counterexample:
    layers = (matrix(((2, 0), (0, 1))), matrix(((0, 1), (0, 0))))
    chain, parameters = chain_of_rational_layers(layers)
    # xi_2 = 0 and kappa_2 = 0 make the second factor exactly 0, and the claim 0; the product is [[0, 1], [0, 0]].
    rate = float(max_rate(parameters.alignment[1], parameters.gap[1]))

    def refutes() -> bool:
        claimed_is_zero = gap_squared(layers[1]) == 0 and alignment_squared(layers[1]) == 0
        return claimed_is_zero and product(layers)[0][1] != 0

    return Counterexample(
        name="product-upper-two-layers",
        claim="T8 by layer",
        statement="||P_{L:1}|| <= sigma_1 prod_{l>=2} sigma_l Lambda_max(kappa_l, xi_l)",
        chain=chain,
        parameters=parameters,
        hypotheses=(),
        quantity="||P_{L:1}||",
        claimed=2.0 * 1.0 * rate,
        measured=1.0,
        line="np.linalg.norm(np.array([[0, 1], [0, 0]]) @ np.diag([2, 1]), 2) > 2 * 0",
        found="by hand; least L, for at L = 1 the claim is an equality. The first layer's gap lets through what the "
        "second, of gap 0, turns into its own direction",
        layers=layers,
        refutes=refutes,
    )


def _lower() -> Counterexample:
    layers = (matrix(((1, 0), (0, 0))), matrix(((6, -6), (1, 1))), matrix(((1, -6), (0, 0))))
    chain, parameters = chain_of_rational_layers(layers)
    claimed = float(parameters.sigma[0])
    hypotheses = []
    for layer in (1, 2):
        kappa, xi = float(parameters.alignment[layer]), float(parameters.gap[layer])
        claimed *= float(parameters.sigma[layer]) * float(min_rate(kappa, xi))
        critical = float(critical_alignment(xi))
        name = f"kappa_{layer + 1} >= kappa_c(xi_{layer + 1})"
        hypotheses.append(at_least(name, "every layer keeps a cone of its own", kappa, critical))

    def refutes() -> bool:
        # kappa_c^2 = 4 xi / (1 + xi)^2 with rational xi = 1/6 and 0; both layers are strictly above.
        roots = (Fraction(1, 6), Fraction(0))
        cones = all(
            gap_squared(layer) == xi**2 and alignment_squared(layer) > 4 * xi / (1 + xi) ** 2
            for layer, xi in zip(layers[1:], roots, strict=True)
        )
        return cones and not any(any(row) for row in product(layers))

    return Counterexample(
        name="product-lower-three-layers",
        claim="T9 by layer",
        statement="||P_{L:1}|| >= sigma_1 prod_{l>=2} sigma_l Lambda_min(kappa_l, xi_l) if kappa_l >= kappa_c(xi_l)",
        chain=chain,
        parameters=parameters,
        hypotheses=tuple(hypotheses),
        quantity="||P_{L:1}||",
        claimed=claimed,
        measured=0.0,
        line="not (np.array([[1, -6], [0, 0]]) @ [[6, -6], [1, 1]] @ np.diag([1, 0])).any()",
        found="by hand: the last layer reads exactly across what the second wrote, and the product is 0. Least L, for "
        "at L = 2 the claim is that of (T9)",
        layers=layers,
        refutes=refutes,
    )
