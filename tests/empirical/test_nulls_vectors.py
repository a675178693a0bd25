"""Random singular vectors: spectra kept, directions gone, everything else as it was trained."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from empirical.checkpoints.checkpoint import Checkpoint, load_checkpoint
from empirical.jacobians.decompositions import NonFiniteError
from empirical.nulls import random_singular_vectors
from observables import RandomAlignment
from tests.helpers.tiny_whisper import write_tiny_whisper

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = write_tiny_whisper(tmp_path_factory.mktemp("model") / "tiny", decoder_layers=3)
    return load_checkpoint(directory, dtype="float64")


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(checkpoint.model.state_dict())


def matrices(checkpoint: Checkpoint) -> list[str]:
    """Names of the weight matrices of the decoder's layers: ten a layer."""
    names = [name for name, value in weights(checkpoint).items() if ".decoder.layers." in name and value.ndim == 2]
    assert len(names) == 3 * 10
    return names


def test_singular_values_are_kept_to_rounding(checkpoint: Checkpoint):
    before, after = weights(checkpoint), weights(random_singular_vectors(checkpoint, 1))
    for name in matrices(checkpoint):
        s = torch.linalg.svdvals(before[name])
        difference = (torch.linalg.svdvals(after[name]) - s).abs().max()
        assert float(difference) <= 8 * max(before[name].shape) * np.finfo(np.float64).eps * float(s[0])
        assert not torch.equal(before[name], after[name])


def test_all_else_is_the_trained_model_and_it_is_not_touched(checkpoint: Checkpoint):
    before = {name: value.clone() for name, value in weights(checkpoint).items()}
    after = weights(random_singular_vectors(checkpoint, 1))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == set(matrices(checkpoint))
    assert all(torch.equal(value, before[name]) for name, value in weights(checkpoint).items())


def test_the_seed_alone_decides_whatever_the_dtype(checkpoint: Checkpoint):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, again = (weights(random_singular_vectors(checkpoint, 5)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    other = weights(random_singular_vectors(checkpoint, 6))
    single = checkpoint.with_model(load_checkpoint(checkpoint.ref, dtype="float32").model)
    rounded = weights(random_singular_vectors(single, 5))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    for name in matrices(checkpoint):
        assert not torch.equal(one[name], other[name])
        # The same directions: the float32 weights have the float64 ones' values, and are rounded once.
        assert float((rounded[name].double() - one[name]).abs().max()) <= 1e-6 * float(one[name].abs().max())
    assert random_singular_vectors(checkpoint, 5).notes[-1] == "null:random_singular_vectors:5"


def test_vectors_are_haar_and_know_nothing_of_the_old_ones_T22(checkpoint: Checkpoint):
    """Overlaps of each leading vector with its old self follow |<u, v>| in R^m, whose r.m.s. is m^(-1/2)."""
    chances = {"left": [], "right": []}
    sizes = []
    for seed in range(8):
        after = weights(random_singular_vectors(checkpoint, seed))
        for name, before in weights(checkpoint).items():
            if name in after and ".decoder.layers." in name and before.ndim == 2:
                u, _, vh = torch.linalg.svd(before, full_matrices=False)
                w, _, xh = torch.linalg.svd(after[name], full_matrices=False)
                overlaps = {"left": float(u[:, 0] @ w[:, 0]), "right": float(vh[0] @ xh[0])}
                for side, size in zip(("left", "right"), before.shape, strict=True):
                    chances[side].append(RandomAlignment(size).exceeded(min(abs(overlaps[side]), 1.0)))
                    sizes.append(size * overlaps[side] ** 2)
    for side in ("left", "right"):
        assert len(chances[side]) == 240
        assert stats.kstest(chances[side], "uniform").pvalue > 1e-6
    # d <u, v>^2 has mean 1 and variance below 2; 5 standard deviations of the mean of 480.
    assert abs(np.mean(sizes) - 1.0) < 5 * math.sqrt(2 / len(sizes))


def test_signs_of_the_vectors_are_fair(checkpoint: Checkpoint):
    """Without the correction of QR's signs, an entry on the diagonal would lean to one side."""
    from empirical.nulls.models import _haar_frame

    generator = torch.Generator().manual_seed(0)
    n = 2_000
    corner = torch.stack([_haar_frame(3, 2, generator)[:2, :2].diagonal() for _ in range(n)])
    # A coordinate of a uniform unit vector of R^3 is uniform on [-1, 1]: mean 0, variance 1/3; 5 deviations.
    assert float(corner.mean(dim=0).abs().max()) < 5 * math.sqrt(1 / (3 * n))
    for column in corner.T:
        assert stats.kstest(column.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-6


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path):
    broken = load_checkpoint(write_tiny_whisper(tmp_path / "tiny", decoder_layers=1))
    with torch.no_grad():
        weights(broken)["model.decoder.layers.0.fc1.weight"][0, 0] = math.nan  # the model's own storage
    with pytest.raises(NonFiniteError, match=r"0\.fc1\.weight"):
        random_singular_vectors(broken, 0)
