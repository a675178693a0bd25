"""Principal angles against dense algebra, and their null against its exact moments and a brute-force law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from empirical.jacobians.chain import DecoderChain
from empirical.jacobians.random_subspaces import random_subspaces
from empirical.jacobians.subspaces import leading_spaces, measure_subspaces, principal_cosines
from empirical.subspaces import SUBSPACE_COLUMNS, subspace_alignment, subspace_rows
from tests.empirical import jacobian_models as oracle
from tests.helpers.tiny_whisper import write_tiny_whisper

TOKENS = [1, 7, 3, 22, 5]
WIDTH = 12


def chain_of(dtype=torch.float64, tokens=TOKENS, **sizes) -> DecoderChain:
    model = oracle.small_whisper(dtype, **sizes)
    return DecoderChain(model, oracle.encoder_states(model), tokens)


def dense_propagators(position: int | None) -> list[torch.Tensor]:
    model = oracle.small_whisper(torch.float64)
    states = oracle.encoder_states(model)
    chain = DecoderChain(model, states, TOKENS)
    found = []
    for layer in range(1, chain.depth + 1):
        a, _ = oracle.layer_jacobians(model, chain.hidden[layer - 1], states, layer, chain.rows(position))
        found.append(a if position is None else a.view(WIDTH, len(TOKENS), WIDTH)[:, position])
    return found


@pytest.mark.parametrize("position", [-1, 2, None])
def test_cosines_equal_those_of_dense_singular_spaces(position):
    dense = [torch.linalg.svd(a) for a in dense_propagators(position)]
    rows = measure_subspaces(chain_of(), (1, 2, 4), position)
    assert [(row["layer"], row["rank"]) for row in rows] == [(layer, rank) for layer in (2, 3) for rank in (1, 2, 4)]
    for row in rows:
        layer, rank = row["layer"], row["rank"]
        (u, s_before, _), (_, s, vh) = dense[layer - 2], dense[layer - 1]
        # cosines of principal angles by the other definition: eigenvalues of P Q, P and Q the projections
        p, q = vh[:rank].T @ vh[:rank], u[:, :rank] @ u[:, :rank].T
        squares = torch.linalg.eigvalsh(q @ p @ q).flip(0)[:rank].clamp_min(0.0)
        assert row["converged"]
        np.testing.assert_allclose(np.square(row["cosines"]), squares.numpy(), atol=1e-7)
        assert math.isclose(row["overlap"], float(torch.trace(p @ q)) / rank, abs_tol=1e-7)
        assert row["largest_cosine"] == row["cosines"][0] and row["smallest_cosine"] == row["cosines"][-1]
        assert math.isclose(row["boundary_gap"], float(s[rank] / s[rank - 1]), rel_tol=1e-7)
        assert math.isclose(row["boundary_gap_before"], float(s_before[rank] / s_before[rank - 1]), rel_tol=1e-7)


def test_rank_one_is_the_alignment_of_the_layers_table():
    from empirical.jacobians.propagators import measure_position_layers

    chain = chain_of()
    layers = measure_position_layers(chain)
    for row, layer in zip(measure_subspaces(chain, (1,)), layers[1:], strict=True):
        assert math.isclose(row["largest_cosine"], layer.alignment, abs_tol=1e-12)


def test_the_whole_space_meets_itself_and_has_no_spread():
    row = measure_subspaces(chain_of(), (WIDTH,))[0]
    assert math.isclose(row["overlap"], 1.0, rel_tol=1e-12)
    assert row["null_overlap"] == 1.0 and row["null_overlap_sd"] == 0.0 and row["boundary_gap"] == 0.0
    assert row["chance"] == 1.0


def test_angles_of_spaces_that_share_a_direction():
    eye = torch.eye(6, dtype=torch.float64)
    angle = 0.3
    turned = math.cos(angle) * eye[:, 1] + math.sin(angle) * eye[:, 4]
    right, left = eye[:, :2], torch.stack([turned, -eye[:, 0]], 1)
    np.testing.assert_allclose(principal_cosines(right, left).numpy(), [1.0, math.cos(angle)], atol=1e-14)
    with pytest.raises(ValueError, match="left must have orthonormal columns"):
        principal_cosines(right, 2 * left)
    with pytest.raises(ValueError, match="two"):
        principal_cosines(right, left[:, :1])


@pytest.mark.parametrize(("dimension", "rank"), [(2, 1), (9, 3), (5, 4), (96, 8), (1280, 4)])
def test_null_has_its_exact_mean_and_variance(dimension, rank):
    null = random_subspaces(dimension, rank, draws=20_000, seed=3)
    n = len(null.overlap)
    # five standard errors of a mean: a false alarm in 1 of 1.7 million
    assert abs(null.overlap.mean() - null.mean) < 5 * null.sd / math.sqrt(n)
    spread = (null.overlap - null.mean) ** 2
    assert abs(spread.mean() - null.sd**2) < 5 * spread.std() / math.sqrt(n)


@pytest.mark.parametrize(("dimension", "rank"), [(9, 3), (5, 4), (16, 2)])
def test_null_is_the_law_of_brute_force_frames(dimension, rank):
    null = random_subspaces(dimension, rank, draws=20_000, seed=1)
    generator = np.random.default_rng(0)
    q, _ = np.linalg.qr(generator.standard_normal((20_000, dimension, rank)))
    cosines = np.linalg.svd(q[:, :rank], compute_uv=False)  # against the first coordinates: one space may be fixed
    # KS distance that 20,000 + 20,000 draws of one law exceed with chance 1e-6
    critical = math.sqrt(-0.5 * math.log(0.5e-6)) * math.sqrt(2 / 20_000)
    for ours, theirs in ((null.overlap, (cosines**2).mean(1)), (null.largest, cosines[:, 0])):
        # rounding is no part of the law: spaces of more than half the dimensions share a direction, cosine 1
        assert float(np.asarray(stats.ks_2samp(ours.round(9), theirs.round(9)))[0]) < critical


def test_null_of_rank_one_is_beta():
    null = random_subspaces(96, 1, draws=20_000, seed=2)
    critical = math.sqrt(-0.5 * math.log(0.5e-6)) / math.sqrt(20_000)
    assert float(np.asarray(stats.kstest(null.overlap, stats.beta(0.5, 95 / 2).cdf))[0]) < critical


def test_chance_counts_the_observed_one_and_stays_above_zero():
    null = random_subspaces(20, 2, draws=99, seed=0)
    assert null.chance(1.0) == 1 / 100
    assert null.chance(0.0) == 1.0
    assert null.chance(float(null.overlap[-1])) == 2 / 100
    assert math.isnan(null.chance(math.nan))


def test_the_null_depends_on_its_seed_alone():
    again = random_subspaces.__wrapped__(96, 4, draws=50, seed=5)
    assert np.array_equal(again.overlap, random_subspaces(96, 4, draws=50, seed=5).overlap)
    assert not np.array_equal(again.overlap, random_subspaces(96, 4, draws=50, seed=6).overlap)


def test_an_unconverged_space_gives_no_angle(monkeypatch):
    from empirical.jacobians import subspaces
    from empirical.jacobians.krylov import leading_triplets

    calls = []

    def refuse_the_second(operator, k, **options):
        calls.append(1)
        return leading_triplets(operator, k, tolerance=1e-300 if len(calls) == 2 else None, **options)

    monkeypatch.setattr(subspaces, "leading_triplets", refuse_the_second)
    rows = measure_subspaces(chain_of(depth=4), (1, 2), None)
    for row in rows:
        touched = row["layer"] in (2, 3)  # the second layer's left space meets the third's right one
        assert row["converged"] is not touched
        assert math.isnan(row["overlap"]) is touched and math.isnan(row["chance"]) is touched
        assert all(math.isnan(cosine) is touched for cosine in row["cosines"])


def test_sequence_spaces_by_iteration_are_the_dense_ones():
    """288 rows: past the dense case."""
    chain = chain_of(tokens=list(range(1, 13)), width=24)
    for layer, space in enumerate(leading_spaces(chain, 2, None), start=1):
        s = torch.linalg.svdvals(chain.propagator(layer).materialise().matrix)
        assert bool(space.converged.all())
        np.testing.assert_allclose(space.s.numpy(), s[:3].numpy(), rtol=1e-8)


def test_table_has_one_row_a_layer_and_rank(tmp_path):
    import soundfile

    directory = write_tiny_whisper(tmp_path / "model")
    for name in "ab":
        noise = np.random.default_rng(ord(name)).standard_normal(16_000)
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * noise, 16_000)
    clips = [tmp_path / "a.wav", tmp_path / "b.wav"]
    table = subspace_alignment(directory, clips, (1, 2), states=("position", "sequence"))
    assert list(table.columns) == list(SUBSPACE_COLUMNS)
    assert len(table) == 2 * 2 * 2 * 2
    assert table["overlap"].between(0.0, 1.0).all() and table["converged"].all()
    assert (table["dimension"] == np.where(table["state"] == "position", 16, 16 * table["n_tokens"])).all()
    with pytest.raises(ValueError, match=r"states? must be of"):
        subspace_alignment(directory, clips, states=("frame",))  # type: ignore[arg-type]
    again = subspace_alignment(directory, clips[:1], (1, 2), states=("position",))
    first = table[(table["clip"] == "a") & (table["state"] == "position")].reset_index(drop=True)
    assert again["overlap"].equals(first["overlap"])


def test_bad_arguments_are_named():
    chain = chain_of()
    with pytest.raises(ValueError, match=r"ranks must be whole numbers in \[1, 12\].*got 13"):
        measure_subspaces(chain, (1, 13))
    with pytest.raises(ValueError, match="at least one rank"):
        measure_subspaces(chain, ())
    with pytest.raises(ValueError, match=r"rank must lie in \[1, 4\]"):
        random_subspaces(4, 5)


def test_rows_of_a_chain_at_hand_are_those_of_the_table(tmp_path):
    import soundfile

    from empirical.blocks import BLOCK_COLUMNS, block_parameters, block_rows
    from empirical.hearing import hear

    directory = write_tiny_whisper(tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(7).standard_normal(16_000), 16_000)
    ((checkpoint, prepared),) = hear(directory, [tmp_path / "a.wav"], ["clean"], "float64", seed=3)
    chain = DecoderChain(checkpoint.model, prepared.states, prepared.transcript.tokens)
    before = chain.products
    rows = subspace_rows(checkpoint, prepared, chain, "position", seed=3)
    assert chain.products > before and list(rows[0]) == list(SUBSPACE_COLUMNS)
    assert {row["rank"] for row in rows} == {1, 2, 4, 8}
    table = subspace_alignment(directory, [tmp_path / "a.wav"], seed=3)
    assert [row["cosines"] for row in rows] == table["cosines"].tolist()
    blocks = block_rows(checkpoint, prepared, chain, "position", seed=3)
    assert list(blocks[0]) == list(BLOCK_COLUMNS)
    again = block_parameters(directory, [tmp_path / "a.wav"], seed=3)
    assert [row["sigma"] for row in blocks] == again["sigma"].tolist()
    with pytest.raises(ValueError, match="state must be of the decoder"):
        block_rows(checkpoint, prepared, chain, "frame")  # type: ignore[arg-type]


def test_in_the_sequence_overlaps_stand_beside_the_null_that_keeps_positions():
    chain = chain_of()
    spaces = leading_spaces(chain, 2, None)
    rows = {(row["layer"], row["rank"]): row for row in measure_subspaces(chain, (1, 2), None)}
    for (layer, rank), row in rows.items():
        v, u = spaces[layer - 1].v[:, :rank], spaces[layer - 2].u[:, :rank]
        p, q = (frame.view(len(TOKENS), WIDTH, rank).square().sum((1, 2)) / rank for frame in (v, u))
        assert math.isclose(row["kept_overlap"], rank * float(p @ q) / WIDTH, rel_tol=1e-9)
        assert row["kept_overlap"] < row["kept_overlap_high"] and 0.0 < row["kept_chance"] <= 1.0
    assert all(math.isnan(row["kept_overlap"]) for row in measure_subspaces(chain, (1, 2), -1))


def test_frames_of_a_loose_iteration_are_orthonormal():
    """float32, past the dense case: right vectors are A^T u / s, orthogonal to the residual only."""
    chain = chain_of(torch.float32, tokens=list(range(1, 13)), width=24)
    for space in leading_spaces(chain, 4, None):
        for frame in (space.u, space.v):
            off = frame.T @ frame - torch.eye(frame.shape[1], dtype=torch.float64)
            assert float(off.abs().max()) < 1e-12
    assert all(row["converged"] for row in measure_subspaces(chain, (1, 4), None))
