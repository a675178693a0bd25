"""The rank-r certificate (T25): it holds for every frame, and each choice has the property it was chosen for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from tests.helpers.chains import EPS, dense_jacobian, rounding, seeds
from theory.bounds import frames as frames_module
from theory.bounds.frames import FRAMES


def layers(rng: np.random.Generator, depth: int, d: int, m: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    a = rng.standard_normal((depth, d, d)) / math.sqrt(d)
    if kind == "residual":
        a = np.eye(d) + 0.4 * a
    return a, rng.standard_normal((depth, d, m)) / math.sqrt(d)


def scale(a: np.ndarray, b: np.ndarray) -> float:
    size = 0.0
    for one, other in zip(a, b, strict=True):
        size = np.linalg.norm(one, 2) * size + np.linalg.norm(other, 2)
    return float(size)


def broken(a: np.ndarray, b: np.ndarray, choice: object, rank: int, block: int = 1) -> int:
    """Number of (T25)'s bounds that the chain breaks by more than rounding."""
    s = np.append(np.linalg.svd(dense_jacobian(a, b), compute_uv=False), np.zeros(a.shape[1]))
    slack = rounding(len(a), max(a.shape[1], b.shape[2])) * scale(a, b)
    found = theory.certify_frames(a, choice, rank, b, block=block)  # pyright: ignore[reportArgumentType]
    count = int(np.sum(np.exp(found.log_lower) - slack > s[:rank]))
    count += int(np.sum(s[:rank] > np.exp(found.log_upper) + slack))
    return count + int(s[rank] > math.exp(found.log_next_upper) + slack)


@settings(deadline=None, max_examples=60)
@given(
    seed=seeds(),
    depth=st.integers(1, 8),
    d=st.integers(1, 9),
    m=st.integers(1, 6),
    rank=st.integers(1, 8),
    choice=st.sampled_from([*FRAMES, "given"]),
    block=st.integers(1, 3),
    kind=st.sampled_from(["residual", "gaussian"]),
)
def test_T25_holds_for_every_frame(
    seed: int, depth: int, d: int, m: int, rank: int, choice: str, block: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    a, b = layers(rng, depth, d, m, kind)
    rank, block = min(rank, d), min(block, depth)
    count = -(-depth // block)
    given_frames = np.linalg.qr(rng.standard_normal((count, d, rank)))[0]
    assert broken(a, b, given_frames if choice == "given" else choice, rank, block) == 0


@settings(deadline=None, max_examples=30)
@given(seed=seeds(), choice=st.sampled_from(FRAMES), rank=st.sampled_from([1, 2, 4]))
def test_T25_improved_is_never_worse_than_norms_alone(seed: int, choice: str, rank: int) -> None:
    a, b = layers(np.random.default_rng(seed), 8, 12, 5, "residual")
    found = theory.certify_frames(a, choice, rank, b)  # pyright: ignore[reportArgumentType]
    floor = math.log(rounding(8, 12) * scale(a, b))  # errors that vanish are rounding in both
    assert found.log_error <= max(found.log_error_original + 1e-12, floor)
    assert found.log_rest <= found.log_rest_original + 1e-12


def test_T25_forward_frames_send_nothing_across_and_backward_frames_take_nothing_in() -> None:
    a, b = layers(np.random.default_rng(1), 6, 9, 4, "residual")
    forward, backward = theory.frames_of(a, "forward", 3, b), theory.frames_of(a, "backward", 3, b)
    for layer in range(1, 6):
        out = a[layer] @ forward[layer - 1]
        np.testing.assert_allclose(out - forward[layer] @ (forward[layer].T @ out), 0, atol=40 * EPS)
        taken = a[layer].T @ backward[layer]
        np.testing.assert_allclose(taken - backward[layer - 1] @ (backward[layer - 1].T @ taken), 0, atol=40 * EPS)


def test_T25_backward_frames_give_the_leading_singular_values_exactly() -> None:
    a, b = layers(np.random.default_rng(2), 8, 16, 6, "residual")
    found = theory.certify_frames(a, "backward", 4, b)
    s = np.linalg.svd(dense_jacobian(a, b), compute_uv=False)
    np.testing.assert_allclose(np.exp(found.log_lower), s[:4], rtol=rounding(8, 16) * scale(a, b) / s[3])


def test_T25_full_frames_leave_nothing_out() -> None:
    a, b = layers(np.random.default_rng(3), 5, 6, 6, "gaussian")
    s = np.linalg.svd(dense_jacobian(a, b), compute_uv=False)
    for choice in FRAMES:
        found = theory.certify_frames(a, choice, 6, b)
        np.testing.assert_allclose(np.exp(found.log_upper), s, atol=rounding(5, 6) * scale(a, b))


def test_T25_survives_deep_chains_of_any_scale() -> None:
    for sigma in (1e-150, 1e150):
        chain = theory.twisted_chain(0.9, 0.05, 60, sigma=sigma, dimension=4)
        found = theory.certify_frames(chain, "forward", 1)
        true = theory.certify_blocks(chain, blocks=[60]).log_norm
        assert math.isfinite(found.log_upper[0]) and found.log_upper[0] >= true - 1e-9


def test_T25_refuses_what_is_no_frame() -> None:
    a, b = layers(np.random.default_rng(4), 3, 4, 2, "gaussian")
    for rank in (0, 5, 1.5):
        with pytest.raises(ValueError, match="rank must be"):
            theory.certify_frames(a, "layers", rank, b)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="rank must be given"):
        theory.certify_frames(a, "layers", None, b)
    with pytest.raises(ValueError, match=r"frames must be one of layers, context, forward, backward.*'own'"):
        theory.certify_frames(a, "own", 1, b)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"frames must have shape \(3, 4, r\)"):
        theory.certify_frames(a, np.ones((2, 4, 1)), None, b)
    with pytest.raises(ValueError, match="orthonormal"):
        theory.certify_frames(a, np.ones((3, 4, 1)), None, b)


@pytest.mark.parametrize("part", ["c", "h", "outside"])
def test_a_dropped_term_of_T25_is_refuted(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the rest feeds back (c), carries on (h) or is given (outside), random chains break the bounds."""
    true = frames_module._split

    def without(joined, w):
        from dataclasses import replace

        from theory.bounds._scaled import scaled

        return [replace(one, **{part: scaled(np.zeros_like(getattr(one, part).matrix))}) for one in true(joined, w)]

    cases = [layers(np.random.default_rng(seed), 3, 3, 2, "residual") for seed in range(40)]
    assert sum(broken(a, b, "layers", 1) for a, b in cases) == 0
    monkeypatch.setattr(frames_module, "_split", without)
    assert sum(broken(a, b, "layers", 1) for a, b in cases) > 0
