"""Blocks of layers against dense float64 algebra on the Jacobians that autograd gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import theory
from empirical.blocks import BLOCK_COLUMNS, block_parameters, task_blocks
from empirical.jacobians.blocks import _coherent, measure_blocks
from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.context import measure_context
from empirical.jacobians.krylov import leading_triplets
from empirical.jacobians.propagators import measure_position_layers, measure_sequence_layers
from observables import ChainParameters
from tests.empirical import jacobian_models as oracle
from tests.helpers.tiny_whisper import write_tiny_whisper

TOKENS = [1, 7, 3, 22, 5]
WIDTH = 12
DEPTH = 4
FIELDS = ("sigma", "gap", "alignment", "injection_along", "injection_across", "misalignment", "bulk_gap")


def dense(position: int | None, dtype=torch.float64):
    """The chain, and its A_l and B_l by autograd of the modules, stacked."""
    model = oracle.small_whisper(torch.float64, depth=DEPTH)
    states = oracle.encoder_states(model)
    exact = DecoderChain(model, states, TOKENS)
    a, b = [], []
    for layer in range(1, DEPTH + 1):
        one, other = oracle.layer_jacobians(model, exact.hidden[layer - 1], states, layer, exact.rows(position))
        a.append(one if position is None else one.view(WIDTH, len(TOKENS), WIDTH)[:, position])
        b.append(other)
    chain = DecoderChain(oracle.small_whisper(dtype, depth=DEPTH), states.to(dtype), TOKENS)
    return chain, torch.stack(a).numpy(), torch.stack(b).numpy()


def norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


def recurrence(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = b[0]
    for one, other in zip(a[1:], b[1:], strict=True):
        total = one @ total + other
    return total


def of_size(table, size):
    return [one for one in table.blocks if one.block == size]


@pytest.mark.parametrize("position", [-1, 1, None])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 5e-3)])
def test_blocks_equal_dense_coarse_graining(position, dtype, tolerance):
    chain, a, b = dense(position, dtype)
    table = measure_blocks(chain, None, position)
    for size in range(1, DEPTH + 1):
        found = of_size(table, size)
        known = theory.coarse_grain(a, size, b)  # an implementation of (T17) that shares no code with this one
        assert len(found) == known.depth == math.ceil(DEPTH / size)
        for name in FIELDS:
            values = [getattr(one, name) for one in found]
            np.testing.assert_allclose(values, getattr(known, name), rtol=tolerance, atol=tolerance, err_msg=name)
        for one in found:
            assert one.propagator_converged and one.injection_converged
            assert math.isclose(
                one.injection_norm,
                norm(recurrence(a[one.first - 1 : one.last], b[one.first - 1 : one.last])),
                rel_tol=tolerance,
            )
            assert one.index == 1 or math.isclose(one.gain, one.sigma * one.alignment)
    assert [(one.first, one.last) for one in of_size(table, 3)] == [(1, 3), (4, 4)]


@pytest.mark.parametrize("position", [-1, None])
def test_the_chains_own_context_jacobian_stands_beside_the_exact_one(position):
    chain, a, b = dense(position)
    table = measure_blocks(chain, None, position)
    jacobian = recurrence(a, b)
    s = np.linalg.svd(jacobian, compute_uv=False)
    np.testing.assert_allclose([table.context_norm, table.context_sigma2], s[:2], rtol=1e-7)
    assert table.context_converged and table.exact_converged
    rows = chain.rows(position)
    model = oracle.small_whisper(torch.float64, depth=DEPTH)
    exact = oracle.context_jacobian(model, oracle.encoder_states(model), TOKENS, DEPTH, rows)
    assert math.isclose(table.exact_norm, norm(exact.numpy()), rel_tol=1e-8)
    for size in range(1, DEPTH + 1):
        u = of_size(table, size)[-1].u.numpy()
        along = float(np.linalg.norm(u @ jacobian))
        across = norm(jacobian - np.outer(u, u @ jacobian))
        np.testing.assert_allclose(table.context_parts[size], (along, across), rtol=1e-7)
    whole = of_size(table, DEPTH)[0]  # one block is J_L itself
    assert math.isclose(whole.injection_norm, table.context_norm, rel_tol=1e-9)


@pytest.mark.parametrize("position", [-1, None])
def test_coherent_parts_are_those_of_one_direction_and_none_has_more(position):
    chain, a, b = dense(position)
    table = measure_blocks(chain, None, position)
    for size in range(1, DEPTH + 1):
        found = of_size(table, size)
        along, sign = [], 1.0
        for index, one in enumerate(found):
            if index:
                sign *= math.copysign(1.0, float(one.v @ found[index - 1].u))  # <v_l, u_{l-1}> >= 0
            part = recurrence(a[one.first - 1 : one.last], b[one.first - 1 : one.last])
            along.append(sign * (one.u.numpy() @ part))
        g = np.stack(along)
        c = np.array([one.injection_coherent for one in found])
        # w = G^+ c recovers the direction: it must be a unit vector that gives exactly these parts
        w = np.linalg.pinv(g) @ c
        np.testing.assert_allclose(np.linalg.norm(w), 1.0, rtol=1e-7)
        np.testing.assert_allclose(g @ w, c, atol=1e-8 * float(np.linalg.norm(g)))
        assert math.isclose(np.linalg.norm(c), norm(g), rel_tol=1e-8)  # the largest sum of squares there is
        assert c[-1] >= 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_coherent_part_is_never_larger_than_the_part_it_is_of(seed):
    """Beside injections 1e9 times larger, rounding is far more than 64 eps of a small one, which the theory refuses."""
    w = torch.randn(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    g = torch.tensor([1.0, 1e9, 3e9, 1e-3], dtype=torch.float64)[:, None] * w
    gram = g @ g.T
    assert (np.abs(_coherent(gram)) <= gram.diagonal().sqrt().numpy()).all()


def test_the_certificate_of_every_block_size_holds_of_the_dense_chain():
    chain, a, b = dense(None)
    table = measure_blocks(chain, None, None)
    truth = norm(recurrence(a, b))
    for size in range(1, DEPTH + 1):
        found = of_size(table, size)
        names = (*FIELDS, "injection_coherent")
        parameters = ChainParameters(**{name: np.array([getattr(one, name) for one in found]) for name in names})
        certificate, cone = theory.certify(parameters), theory.certify_cone(parameters)
        slack = 1 + 1e-7
        assert certificate.norm_lower <= truth * slack and truth <= certificate.norm_upper * slack
        assert cone.log_norm_lower <= math.log(truth * slack) and math.log(truth) <= cone.log_norm_upper + 1e-7
        assert certificate.coherent_lower is not None and certificate.coherent_lower <= truth * slack


@pytest.mark.parametrize("position", [-1, None])
def test_blocks_of_one_layer_are_the_layers(position):
    chain, *_ = dense(position)
    layers = measure_sequence_layers(chain) if position is None else measure_position_layers(chain, position)
    for one, layer in zip(measure_blocks(chain, [1], position).blocks, layers, strict=True):
        for name in (*FIELDS, "injection_norm"):
            np.testing.assert_allclose(getattr(one, name), getattr(layer, name), rtol=1e-7, atol=1e-7, err_msg=name)


def test_sizes_that_were_asked_for_do_not_depend_on_the_others():
    chain, *_ = dense(-1)
    alone, beside = measure_blocks(chain, [2]), measure_blocks(chain)
    assert {one.block for one in alone.blocks} == {2}
    for one, other in zip(alone.blocks, of_size(beside, 2), strict=True):
        assert one.sigma == other.sigma and one.injection_norm == other.injection_norm
    assert alone.context_norm == beside.context_norm


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_sequence_products_composed_or_dense_agree_past_the_dense_case(budget, monkeypatch):
    """288 rows, so that iterations are at work; composed operators where no product may be kept."""
    monkeypatch.setattr("empirical.jacobians.windows._DENSE_BYTES", budget)
    model = oracle.small_whisper(torch.float64, width=24)
    chain = DecoderChain(model, oracle.encoder_states(model), list(range(1, 13)))
    found = measure_blocks(chain, [2], None)
    first = chain.propagator(2).materialise().matrix @ chain.propagator(1).materialise().matrix
    last = chain.injection(1).materialise().matrix
    last = chain.propagator(2).materialise().matrix @ last + chain.injection(2).materialise().matrix
    s = torch.linalg.svdvals(first)
    block = found.blocks[0]
    assert block.propagator_converged and block.injection_converged
    assert math.isclose(block.sigma, float(s[0]), rel_tol=1e-8)
    assert math.isclose(block.gap, float(s[1] / s[0]), rel_tol=1e-7)
    assert math.isclose(block.injection_norm, norm(last.numpy()), rel_tol=1e-8)


def test_an_unconverged_block_is_nan_and_so_is_what_depends_on_it(monkeypatch):
    chain, *_ = dense(None)
    calls = []

    def refuse_one_propagator(operator, k, **options):
        square = operator.shape[0] == operator.shape[1]
        calls.append(square)
        refused = square and sum(calls) == 2  # the second propagator that is asked for
        return leading_triplets(operator, k, tolerance=1e-300 if refused else None, **options)

    monkeypatch.setattr("empirical.jacobians.propagators.leading_triplets", refuse_one_propagator)
    blocks = measure_blocks(chain, [1], None).blocks
    bad = [one for one in blocks if not one.propagator_converged]
    assert [one.index for one in bad] == [2]
    for name in ("sigma", "gap", "bulk_gap", "injection_along", "injection_across"):
        assert math.isnan(getattr(bad[0], name))
    assert math.isnan(blocks[1].alignment) and math.isnan(blocks[2].alignment)
    assert not math.isnan(blocks[3].alignment) and not math.isnan(blocks[0].sigma)
    assert all(math.isnan(one.injection_coherent) for one in blocks)


def test_table_has_one_row_a_block(tmp_path):
    import soundfile

    directory = write_tiny_whisper(tmp_path / "model")
    for name in "ab":
        noise = np.random.default_rng(ord(name)).standard_normal(16_000)
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * noise, 16_000)
    clips = [tmp_path / "a.wav", tmp_path / "b.wav"]
    table = block_parameters(directory, clips, states=("position", "sequence"))
    assert list(table.columns) == list(BLOCK_COLUMNS)
    assert len(table) == 2 * 2 * (3 + 2 + 1)
    assert (
        table.groupby(["clip", "state", "block"]).size() == table.groupby(["clip", "state", "block"])["blocks"].first()
    ).all()
    assert (
        table["propagator_converged"].all() and table["injection_converged"].all() and table["context_converged"].all()
    )
    assert table["alignment"].isna().equals(table["index"] == 1)
    exact = table[table["state"] == "sequence"]
    assert np.allclose(exact["context_norm"], exact["exact_norm"], rtol=1e-9)
    assert len(block_parameters(directory, clips[:1], [2])) == 2


def test_bad_arguments_are_named(tmp_path):
    chain, *_ = dense(-1)
    refused: list[Any] = [[0], [DEPTH + 1], [1.5], [True]]
    for blocks in refused:
        with pytest.raises(ValueError, match=r"blocks must be whole numbers of layers in \[1, 4\]; got"):
            measure_blocks(chain, blocks)
    with pytest.raises(ValueError, match="at least one block size"):
        measure_blocks(chain, [])
    with pytest.raises(ValueError, match="position must lie"):
        measure_blocks(chain, [1], 7)
    with pytest.raises(ValueError, match="1 <= first <= last <= 4; got 3 and 2"):
        chain.block_injection(3, 2)
    with pytest.raises(ValueError, match="states must be of"):
        block_parameters(tmp_path, ["a.wav"], states=("layer",))  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [-1, None])
def test_what_is_known_of_the_chain_is_not_measured_again(position):
    chain, *_ = dense(position)
    layers = measure_sequence_layers(chain) if position is None else measure_position_layers(chain, -1)
    context = measure_context(chain, 3, position)[-1].triplets
    alone = measure_blocks(chain, [1, 2], position)
    middle = chain.products
    beside = measure_blocks(chain, [1, 2], position, layers=layers, context=context)
    assert chain.products - middle < middle  # and less than half of what both took together
    for one, other in zip(alone.blocks, beside.blocks, strict=True):
        for name in (*FIELDS[:2], "injection_norm", "injection_along", "injection_across"):
            assert math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-7, abs_tol=1e-9), name
        assert math.isclose(one.injection_coherent, other.injection_coherent, rel_tol=1e-6)
    assert math.isclose(alone.exact_norm, beside.exact_norm, rel_tol=1e-7)
    assert math.isclose(alone.context_sigma2, beside.context_sigma2, rel_tol=1e-7)
    with pytest.raises(ValueError, match="layers must be the chain's 4; got 3"):
        measure_blocks(chain, [1], position, layers=layers[:3])


@pytest.mark.parametrize(("depth", "expected"), [(1, [1]), (2, [1]), (4, [1, 2]), (7, [1, 2]), (8, [1, 2, 4])])
def test_a_run_measures_blocks_that_predict_something(depth, expected):
    assert task_blocks(depth, "sequence") == expected
    assert all(2 * size <= depth or size == 1 for size in expected)
    assert task_blocks(depth, "position") == list(range(1, depth + 1))
