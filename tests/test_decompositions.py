"""Decompositions happen in two guarded modules and nowhere else, and what the guards refuse."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.jacobians import decompositions as of_torch
from observables import decompositions as of_numpy

ROOT = Path(__file__).parents[1]
GUARDED = {Path("empirical/jacobians/decompositions.py"), Path("observables/decompositions.py")}
# Norms of vectors decompose nothing; what else a `linalg` namespace has, does.
NORMS = {"vector_norm", "norm"}
# Decompositions that live outside of a `linalg` namespace.
ELSEWHERE = {"svd", "svd_lowrank", "pca_lowrank", "lobpcg", "qr", "geqrf", "cholesky", "pinverse", "logdet", "slogdet"}


def unguarded(source: str) -> list[str]:
    """Names by which a module decomposes something itself."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1] == "linalg":
            found += [f"from {node.module} import {one.name}" for one in node.names if one.name not in NORMS]
        elif isinstance(node, ast.ImportFrom) and node.module in ("torch", "numpy", "scipy"):
            found += [f"from {node.module} import {one.name}" for one in node.names if one.name == "linalg"]
        elif isinstance(node, ast.Import):
            found += [f"import {one.name}" for one in node.names if one.name.endswith("linalg")]
        elif isinstance(node, ast.Attribute):
            below = ast.unparse(node.value)
            if (below.endswith("linalg") and node.attr not in NORMS) or (
                below in ("torch", "np", "numpy") and node.attr in ELSEWHERE
            ):
                found.append(f"{below}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "norm":
            order = node.args[1:2] + [keyword.value for keyword in node.keywords if keyword.arg == "ord"]
            if order and ast.unparse(node.func.value).endswith("linalg"):  # of a matrix, 2 and "nuc" are an SVD
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("package", ["empirical", "observables", "bridge"])
def test_decompositions_happen_in_the_guarded_modules_alone(package: str) -> None:
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 5, "the source tree is not where this test looks"
    elsewhere = {str(path): found for path in paths if (found := unguarded((ROOT / path).read_text()))}
    assert not {name: found for name, found in elsewhere.items() if Path(name) not in GUARDED}
    assert {Path(name) for name in elsewhere} == {path for path in GUARDED if path.parts[0] == package}


@pytest.mark.parametrize(
    "line",
    [
        "import numpy.linalg",
        "import scipy.linalg as sl",
        "from numpy import linalg",
        "from torch.linalg import svd",
        "from scipy.sparse.linalg import eigsh",
        "np.linalg.eigh(a)",
        "torch.linalg.svdvals(a)",
        "numpy.linalg.lstsq(a, b)",
        "torch.svd(a)",
        "np.linalg.norm(a, 2)",
        "np.linalg.norm(a, ord='nuc')",
    ],
)
def test_the_reader_sees_each_way_to_decompose(line: str) -> None:
    assert unguarded(line)


@pytest.mark.parametrize("line", ["torch.linalg.vector_norm(a, dim=0)", "np.linalg.norm(a, axis=1)", "found.svd"])
def test_norms_are_no_decompositions(line: str) -> None:
    assert not unguarded(line)


TORCH = [
    of_torch.svd,
    of_torch.singular_values,
    of_torch.gram_singular,
    of_torch.gram_singular_values,
    of_torch.qr,
    of_torch.qr_positive,
]
NUMPY = [
    of_numpy.singular_values,
    of_numpy.eigenvalues,
    of_numpy.eigenvectors,
    of_numpy.triangle,
    of_numpy.cholesky,
    of_numpy.inverse,
    lambda name, a: of_numpy.solve(name, a, np.ones((len(a), 1))),
    lambda name, a: of_numpy.solve(name, np.eye(len(a)), a),
    lambda name, a: of_numpy.least_squares(name, a, np.ones(len(a))),
    lambda name, a: of_numpy.least_squares(name, np.eye(len(a)), a[:, 0]),
]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_entry_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    array = np.eye(4)
    array[2, 0] = bad
    for function in TORCH:
        with pytest.raises(of_torch.NonFiniteError, match=r"the thing must be finite .* got 1 of 16"):
            function("the thing", torch.tensor(array))
    for function in NUMPY:
        with pytest.raises(ValueError, match=r"the thing must be finite .* got 1 of"):
            function("the thing", array)


def test_shapes_are_refused_by_name() -> None:
    for function in TORCH:
        with pytest.raises(ValueError, match="the thing must be"):
            function("the thing", torch.ones(3))
    for function in TORCH[:4]:
        with pytest.raises(ValueError, match="the thing must be"):
            function("the thing", torch.ones(0, 0))
    for function in TORCH[2:4]:
        with pytest.raises(ValueError, match=r"the thing must be square; got shape \(3, 2\)"):
            function("the thing", torch.ones(3, 2))
    for function in NUMPY[:7]:
        with pytest.raises(ValueError, match="the thing must be"):
            function("the thing", np.ones(3))
    for function in (of_numpy.eigenvalues, of_numpy.eigenvectors, of_numpy.cholesky, of_numpy.inverse):
        with pytest.raises(ValueError, match=r"the thing must be square; got shape \(3, 2\)"):
            function("the thing", np.ones((3, 2)))


def test_singular_and_indefinite_matrices_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the thing must be positive definite"):
        of_numpy.cholesky("the thing", -np.eye(3))
    for function in (of_numpy.inverse, lambda name, a: of_numpy.solve(name, a, np.eye(3))):
        with pytest.raises(ValueError, match="the thing must be invertible"):
            function("the thing", np.zeros((3, 3)))


def test_large_finite_entries_are_no_failure() -> None:
    """Their sum overflows; they are finite all the same."""
    large = np.full((2, 2), 1e308)
    assert of_torch.require_finite("large", torch.tensor(large)) is not None
    assert np.isfinite(of_numpy.triangle("ones", np.ones((2, 2)))).all()
    assert of_numpy._finite("large", large) is large


def test_small_negative_eigenvalues_of_a_gram_matrix_are_values_of_zero() -> None:
    gram = torch.diag(torch.tensor([4.0, -1e-17, 1.0], dtype=torch.float64))
    values, vectors = of_torch.gram_singular("gram", gram)
    assert values.tolist() == [2.0, 1.0, 0.0]
    assert torch.equal(of_torch.gram_singular_values("gram", gram), values)
    assert torch.allclose(vectors.abs(), torch.eye(3, dtype=torch.float64)[:, [0, 2, 1]])


def test_signs_of_a_positive_qr() -> None:
    matrix = torch.randn((7, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q, diagonal = of_torch.qr_positive("matrix", matrix)
    eps = 64 * torch.finfo(torch.float64).eps
    assert bool((diagonal > 0.0).all())
    assert torch.allclose(q.T @ q, torch.eye(4, dtype=torch.float64), atol=eps)
    assert torch.allclose((q.T @ matrix).diagonal(), diagonal, atol=eps * float(matrix.norm()))
