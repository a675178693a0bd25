"""Which simulator is chosen and why; what is refused, and in what words."""

import numpy as np
import pytest
from scipy import stats

from theory.simulators import reduced_product, structured
from theory.simulators.cells import PhaseCells
from theory.simulators.choose import choose
from theory.simulators.probes import probe_growth
from theory.simulators.runs import Request
from theory.simulators.simulate import simulate

CELL = PhaseCells(1.2, 0.6, 0.5, 0.7, 0.4)


@pytest.mark.parametrize("d", [2, 8, 64, 1280, 10**6])
@pytest.mark.parametrize("quantity", ["product", "context"])
def test_the_cheapest_exact_simulator_is_chosen(quantity, d: int) -> None:
    depth = 12
    assert choose(quantity, d, depth).name == "reduced"
    if d > 8:
        low = choose(quantity, d, depth, residual="low_rank", rank=2)
        dense = choose(quantity, d, depth, residual="low_rank", rank=2, simulator="dense")
        assert low.name == "structured" and low.seconds < dense.seconds and low.bytes < dense.bytes
    assert choose(quantity, d, depth, residual="quarter_circle").name == "dense"
    assert choose("context", d, depth, context_dimension=3).name == "structured"
    assert choose("context", d, depth, context_dimension=65).name == "dense"


def test_a_low_rank_close_to_the_dimension_is_dense() -> None:
    """O(d r) columns a layer, orthonormal and multiplied in pairs, are no gain at r = d - 1."""
    names = [choose("product", 512, 12, residual="low_rank", rank=rank).name for rank in (1, 8, 511)]
    assert names == ["structured", "structured", "dense"]


def test_the_reduced_cost_does_not_grow_with_the_dimension_and_the_others_do() -> None:
    for quantity in ("product", "context"):
        small, large = (choose(quantity, d, 12) for d in (64, 10**6))
        assert small.seconds == large.seconds and small.bytes == large.bytes
    for name, power in (("structured", 1), ("dense", 2)):
        small, large = (choose("context", d, 12, simulator=name) for d in (10**4, 10**5))
        assert large.seconds / small.seconds == pytest.approx(10**power, rel=0.05)


def test_a_named_simulator_is_served_with_its_reason() -> None:
    for name in ("reduced", "structured", "dense"):
        found = simulate(CELL, 4, [2], chains=3, seed=0, simulator=name, quantities=("product",))
        choice = found.simulator["product"]
        assert choice.name == name and choice.reason.startswith("asked for; ")
        assert set(found.simulator) == {"product"} and found.context is None
        assert found.product_log_norm is not None and found.product_log_norm.shape == (1, 1, 3)


@pytest.mark.parametrize("d", [5, 1280, 10**6])
def test_many_context_directions_are_reduced_where_the_share_is_not_asked_for(d: int) -> None:
    """Where the share or another frame is, only whole columns serve."""
    reduced = choose("context", d, 12, context_dimension=4, share=False)
    assert (
        reduced.name == "reduced"
        and reduced.seconds == choose("context", 10, 12, context_dimension=4, share=False).seconds
    )
    for options in ({"share": True}, {"share": False, "frame": "isotropic"}):
        whole = choose("context", d, 12, context_dimension=4, **options)
        assert whole.name != "reduced" and whole.seconds > reduced.seconds
    assert choose("context", d, 12, context_dimension=70, share=False).name == "reduced"


def test_reduced_chains_of_many_context_directions_have_the_law_of_whole_ones() -> None:
    """m = 3, of the least dimension and a larger: Kolmogorov-Smirnov on 2000 and 2000 at level 1e-4."""
    cells = PhaseCells([1.2, 0.9], [0.6, 1.0], [0.5, 0.3], [0.7, 2.0], [0.4, 0.2])
    options = {"chains": 2000, "context_dimension": 3, "share": False, "quantities": ("context",)}
    for d in (4, 7):
        found, whole = (
            simulate(cells, d, [5, 1], seed=1, simulator=simulator, **options) for simulator in ("auto", "structured")
        )
        assert found.simulator["context"].name == "reduced"
        assert found.context is not None and whole.context is not None and found.context.log_share is None
        for name in ("log_norm", "log_ratio", "log_noise"):
            x, y = (getattr(one.context, name).round(6) for one in (found, whole))
            assert x.shape == (2, 2, 2000) and np.isfinite(x).all()
            for row in range(2):
                for cell in range(2):
                    assert stats.ks_2samp(x[row, cell], y[row, cell]).pvalue > 1e-4, (d, name, row, cell)
        # A gap 30 % off would be seen, and a chain is the same whatever the number of chains and depths beside it.
        wrong = simulate(PhaseCells(1.2, 0.6, 0.35, 0.7, 0.4), d, [5], seed=1, **options).context
        assert wrong is not None and found.context is not None
        assert stats.ks_2samp(wrong.log_norm[0, 0], whole.context.log_norm[0, 0]).pvalue < 1e-4
        few = simulate(cells, d, [5], seed=1, **(options | {"chains": 300})).context
        assert few is not None
        np.testing.assert_array_equal(few.log_ratio[0], found.context.log_ratio[0, :, :300])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": "steep"}, "residual must be one of flat, low_rank, quarter_circle; got 'steep'"),
        ({"simulator": "fast"}, "simulator must be one of auto, reduced, structured, dense; got 'fast'"),
        ({"quantities": ()}, r"quantities must be a list of at least one of product, context; got \(\)"),
        ({"quantities": "product"}, "quantities must be a list of at least one of product, context; got 'product'"),
        ({"quantities": ("norm",)}, "quantity must be one of product, context; got 'norm'"),
        ({"rank": 2}, "rank must be None unless residual is 'low_rank'; got 2 with 'flat'"),
        ({"residual": "low_rank"}, "rank must be given for a low_rank residual; got None"),
        ({"residual": "low_rank", "rank": 9}, "rank must be at most d - 1 = 8; got 9"),
        ({"residual": "low_rank", "rank": 0}, "rank must be an integer of at least 1; got 0"),
        ({"residual": "quarter_circle", "simulator": "structured"}, "no low rank"),
        ({"residual": "low_rank", "rank": 2, "simulator": "reduced"}, "the low_rank residual has no reduction"),
        ({"context_dimension": 3, "simulator": "reduced"}, "1 or 2 context directions, not 3"),
        (
            {"context_dimension": 3, "simulator": "reduced", "share": False, "frame": "isotropic"},
            "more need share=False and the frame 'across'",
        ),
        ({"context_dimension": 9}, "dimension must be at least context_dimension [+] 1 = 10; got 9"),
        ({"frame": "along"}, "frame must be 'across' or 'isotropic'; got 'along'"),
        ({"dtype": "float16", "simulator": "dense"}, "dtype must be 'float64' or 'float32'; got 'float16'"),
        ({"chains": 0}, "chains must be an integer of at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"depths": []}, "depths must be .*; got"),
        ({"depths": [0]}, "depths must be an integer of at least 1"),
        ({"dimension": 1}, "dimension must be an integer of at least 2; got 1"),
        ({"chains": 10**9}, "cells x chains x depths must need at most 4 GiB; got 59.6 GiB"),
    ],
)
def test_a_wrong_request_is_refused_in_a_line(options, message: str) -> None:
    request = {"dimension": 9, "depths": [2], "chains": 2, "seed": 0} | options
    with pytest.raises(ValueError, match=message) as error:
        simulate(CELL, **request)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("simulator", ["structured", "dense"])
def test_layers_beyond_the_precision_are_refused_and_those_within_are_not(simulator) -> None:
    with pytest.raises(ValueError, match="sigma must keep one layer's product within float32; it would change it by e"):
        simulate(PhaseCells(1e20, 0.5, 0.5), 9, [2], chains=2, seed=0, dtype="float32", simulator=simulator)
    found = simulate(PhaseCells(1e100, 1.0, 0.5), 9, [2], chains=2, seed=0, simulator=simulator)
    assert found.context is not None and found.product_log_norm is not None
    np.testing.assert_allclose(found.product_log_norm, 200 * np.log(10))
    np.testing.assert_allclose(found.context.log_norm, 100 * np.log(10))


@pytest.mark.parametrize(("residual", "rank"), [("flat", None), ("low_rank", 1), ("quarter_circle", None)])
def test_the_least_dimension_is_two(residual, rank) -> None:
    """|det P| = (sigma^2 xi)^L, whatever the chain: sigma_1^2 times the ratio."""
    found = simulate(CELL, 2, [3], chains=4, seed=0, residual=residual, rank=rank, context_dimension=1)
    assert found.product_log_norm is not None and found.product_log_ratio is not None and found.context is not None
    determinant = 2 * found.product_log_norm + found.product_log_ratio
    np.testing.assert_allclose(determinant, 3 * np.log(1.2**2 * 0.5), atol=1e-12)
    assert np.isfinite(found.context.log_norm).all()


def test_probes_refuse_what_is_not_structured() -> None:
    for options, message in (
        ({"probes": 65}, "probes must be at most 64; got 65"),
        ({"residual": "quarter_circle"}, "no low rank"),
        ({"dtype": "int"}, "dtype must be 'float64' or 'float32'; got 'int'"),
    ):
        with pytest.raises(ValueError, match=message):
            probe_growth(CELL, 9, [2], chains=2, seed=0, **options)


def test_what_would_not_fit_is_refused_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theory.chains._requests.available_bytes", lambda: 10**6)
    for simulator in ("structured", "dense"):
        with pytest.raises(ValueError, match=r"takes \d+ bytes and 1000000 are available"):
            simulate(CELL, 5000, [2], chains=2, seed=0, simulator=simulator, quantities=("context",))


def test_little_memory_or_a_small_block_of_alignments_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that do not fit beside each other are run in turn, from the same random numbers."""
    cells = PhaseCells(1.1, np.linspace(0.1, 0.9, 40), 0.5, 1.0, 0.3)

    def both() -> list[np.ndarray]:
        whole = simulate(cells, 40, [3], chains=40, seed=1, quantities=("product",))
        turned = simulate(cells, 40, [3], chains=40, seed=1, quantities=("context",), simulator="structured")
        assert whole.product_log_norm is not None and turned.context is not None
        return [whole.product_log_norm, turned.context.log_norm]

    before = both()
    request = Request(dimension=40, depths=(3,), chains=40, seed=1)
    some, together = structured.tiles(request, 40)
    assert some < 40
    work, each = structured.tile_bytes(request, some, together)
    monkeypatch.setattr(structured, "available_bytes", lambda: work + 2 * each)
    monkeypatch.setattr(reduced_product, "LARGEST_COORDINATES", 8 * 40 * 3 * 4 * 7)
    for x, y in zip(before, both(), strict=True):
        np.testing.assert_array_equal(x, y)
