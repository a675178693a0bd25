"""Records of dense chains whose regime is known, in the columns that measuring writes.

Each clip is a chain h_l = A_l h_{l-1} + B_l c built from prescribed sigma, kappa, xi and injections; every measured
column is then computed from the dense matrices by SVD, so the records obey (T2) to rounding.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CONDITIONS = ("clean", "stretch", "mix", "noise")
COMPONENTS = ("cross-attention", "self-attention", "feed-forward")

# gain per layer, alignment, gap, injections: what makes each regime of (O7).
KINDS = {
    "dispersive decay": {"sigma": 0.75, "kappa": 0.2, "xi": 0.9, "rank": 6},
    "dispersive growth": {"sigma": 1.6, "kappa": 0.2, "xi": 0.9, "rank": 6},
    "coherent decay": {"sigma": 0.7, "kappa": 0.99, "xi": 0.02, "rank": 1},
    "attractor": {"sigma": 1.5, "kappa": 0.99, "xi": 0.02, "rank": 1},
    "pinned": {"sigma": 1.6, "kappa": 0.1, "xi": 0.63, "rank": 6},
}


def _orthogonal(d: int, rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


def _complete(first: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """An orthogonal matrix whose first column is `first`."""
    d = len(first)
    q, _ = np.linalg.qr(np.column_stack([first, rng.normal(size=(d, d - 1))]))
    return q * np.where(np.arange(d) == 0, np.sign(q[:, 0] @ first), 1.0)


def dense_chain(
    depth: int, d: int, m: int, *, sigma: float, kappa: float, xi: float, rank: int, rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Propagators (d x d) with sigma, xi and kappa exact, and injections (d x m) along u_l (rank 1) or not."""
    w = np.zeros(m)
    w[0] = 1.0
    u_before = _orthogonal(d, rng)[:, 0]
    propagators, injections = [], []
    for _ in range(depth):
        across = _complete(u_before, rng)[:, 1]
        v = kappa * u_before + np.sqrt(1 - kappa**2) * across
        u = _orthogonal(d, rng)[:, 0]
        left, right = _complete(u, rng), _complete(v, rng)
        values = np.full(d, sigma * xi)
        values[0] = sigma
        propagators.append(left @ np.diag(values) @ right.T)
        if rank == 1:
            injections.append(np.outer(u, w))
        else:
            injections.append(left[:, :rank] @ _orthogonal(m, rng)[:rank])
        u_before = u
    return propagators, injections


def measured_layers(
    propagators: list[NDArray[np.float64]], injections: list[NDArray[np.float64]], *, k: int = 4
) -> list[dict[str, Any]]:
    """The measured columns of each layer, from dense SVDs."""
    depth, d = len(propagators), propagators[0].shape[0]
    rows: list[dict[str, Any]] = []
    j = np.zeros_like(injections[0])
    u_before: NDArray[np.float64] | None = None
    arrivals = []
    onward = np.eye(d)
    for a, b in zip(reversed(propagators), reversed(injections), strict=True):
        arrivals.append(float(np.linalg.norm(onward @ b, 2)))
        onward = onward @ a
    arrivals.reverse()
    for index, (a, b) in enumerate(zip(propagators, injections, strict=True)):
        left, s, right = np.linalg.svd(a)
        u, v = left[:, 0], right[0]
        j = a @ j + b
        context = np.linalg.svd(j, compute_uv=False)
        frobenius = float(np.linalg.norm(j))
        kappa = np.nan if u_before is None else float(min(abs(v @ u_before), 1.0))
        along = u @ b
        rows.append(
            {
                "layer": index + 1,
                "layers": depth,
                "d_model": d,
                "sigma": float(s[0]),
                "gap": float(min(s[1] / s[0], 1.0)),
                "bulk_gap": float(np.sqrt((s[1:] ** 2).sum() / (d - 1)) / s[0]),
                "bulk_gap_se": 0.0,
                "alignment": kappa,
                "misalignment": np.nan if u_before is None else float(np.sqrt(max(0.0, 1 - kappa**2))),
                "gain": float(s[0]) * kappa,
                "injection_along": float(np.linalg.norm(along)),
                "injection_across": float(np.linalg.norm(b - np.outer(u, along), 2)),
                "injection_norm": float(np.linalg.norm(b, 2)),
                "propagator_residual": 1e-15,
                "propagator_converged": True,
                "injection_converged": True,
                "context_s": context[:k].tolist(),
                "residual": [1e-15] * k,
                "converged": [True] * k,
                "block": 0,
                "refusals": 0,
                "context_frobenius": frobenius,
                "context_frobenius_se": 0.0,
                "context_share": float(context[0] ** 2 / frobenius**2),
                "context_share_se": 0.0,
                "context_effective_rank": np.nan,
                "chain_error": 0.0,
                "arrival": arrivals[index],
                "arrival_converged": True,
                "hidden_rms_before": 2.0 * 1.1**index,
                "hidden_rms": 2.0 * 1.1 ** (index + 1),
                "products": 100,
                "seconds": 0.01,
            }
        )
        u_before = u
    return rows


def layer_rows(
    kind: str = "dispersive decay",
    *,
    model: str = "toy",
    clip: str = "clip-0",
    condition: str = "clean",
    state: str = "position",
    depth: int = 6,
    d: int = 12,
    m: int = 10,
    n_tokens: int = 9,
    seed: int = 0,
    **changed: float,
) -> pd.DataFrame:
    """LAYERS rows of one clip whose chain is of this kind; `changed` overrides sigma, kappa, xi or rank."""
    rng = np.random.default_rng(seed)
    numbers: dict[str, Any] = KINDS[kind] | changed
    rows = measured_layers(*dense_chain(depth, d, m, rng=rng, **numbers))
    shared = {
        "model": model,
        "clip": clip,
        "condition": condition,
        "state": state,
        "tokens": list(range(n_tokens)),
        "n_tokens": n_tokens,
        "tokens_from": "own",
        "positions": n_tokens if state == "sequence" else 1,
        "position": None if state == "sequence" else n_tokens - 1,
        "transcript": " a cat falls now",
        "truncated": False,
        "dtype": "float64",
    }
    return pd.DataFrame.from_records([shared | row for row in rows])


def null_rows(
    share: float, *, model: str = "toy", state: str = "position", draws: int = 20, seed: int = 1, depth: int = 6
) -> pd.DataFrame:
    """NULLS rows of both kinds whose last-layer shares scatter just below `share`."""
    rng = np.random.default_rng(seed)
    frames = []
    for null in ("random_weights", "shuffled_layers"):
        for draw in range(draws):
            rows = layer_rows(model=model, state=state, seed=seed, depth=depth)
            rows["context_share"] = share * (1 - 0.1 * rng.random(len(rows)))
            rows["alignment"] = rows["alignment"] * (0.2 + 0.1 * rng.random(len(rows)))
            frames.append(rows.assign(null=null, draw=draw))
    return pd.concat(frames, ignore_index=True)


def clip_row(model: str, clip: str, condition: str, *, wer: float, seed: int = 0, **changed: Any) -> dict[str, Any]:
    """One CLIPS row."""
    return {
        "model": model,
        "clip": clip,
        "condition": condition,
        "speaker": "s1",
        "reference": "a cat falls now",
        "transcript": " a cat falls now" if wer == 0 else " a house and a horse sleeps",
        "tokens": list(range(9)),
        "n_tokens": 9,
        "wer": wer,
        "substitutions": round(4 * wer),
        "deletions": 0,
        "insertions": 0,
        "reference_words": 4,
        "avg_logprob": -0.1 - 0.4 * wer,
        "no_speech_prob": 0.01,
        "compression_ratio": 1.0,
        "truncated": False,
        "duration_s": 2.0,
        "achieved": json.dumps({"snr_db": 0.0} if condition == "noise" else {}),
        "stress_parameters": json.dumps({}),
        "source_sha256": "0" * 64,
        "result_sha256": "1" * 64,
        "seed": seed,
    } | changed


def activation_rows(
    model: str,
    clip: str,
    condition: str,
    *,
    layers: int,
    d: int = 60,
    n_tokens: int = 12,
    decay: float = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """ACTIVATIONS rows with population eigenvalues i^-decay in every component and layer."""
    rng = np.random.default_rng([seed, sum(map(ord, f"{model}{clip}{condition}"))])
    scale = np.arange(1, d + 1) ** (-decay / 2)
    rows = []
    for component in COMPONENTS:
        for layer in range(1, layers + 1):
            x = (rng.normal(size=(n_tokens, d)) * scale).astype(np.float32)
            rows.append(
                {
                    "model": model,
                    "clip": clip,
                    "condition": condition,
                    "component": component,
                    "layer": layer,
                    "n_tokens": n_tokens,
                    "d_model": d,
                    "x": x.ravel().tolist(),
                    "effective_rank_10": 5.0 + 0.3 * rng.normal(),
                    "kirchhoff_10": 2.0 + 0.1 * rng.normal(),
                    "alpha_10": 1.0 + 0.1 * rng.normal(),
                }
            )
    return rows


def run_tables(
    models: dict[str, str] | None = None,
    *,
    clips: int = 8,
    conditions: tuple[str, ...] = CONDITIONS,
    depth: int = 4,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Tables of a whole run: `models` maps a name to its kind; the first two clips also have the sequence state."""
    models = models or {"organism-a": "dispersive growth", "organism-b": "dispersive decay"}
    layers, clip_rows, activations = [], [], []
    for number, (model, kind) in enumerate(models.items()):
        for index in range(clips):
            for place, condition in enumerate(conditions):
                clip = f"s1-c-{index:04d}"
                wer = 0.0 if condition == "clean" else (0.75 if (index + place) % 2 else 0.25)
                clip_rows.append(clip_row(model, clip, condition, wer=wer, seed=seed))
                draw = 1000 * number + 10 * index + place + seed
                for state in (
                    ("position", "sequence") if index < 2 and condition in ("clean", "noise") else ("position",)
                ):
                    layers.append(
                        layer_rows(
                            kind,
                            model=model,
                            clip=clip,
                            condition=condition,
                            state=state,
                            depth=depth + 2 * number,
                            seed=draw,
                        )
                    )
                activations += activation_rows(
                    model,
                    clip,
                    condition,
                    layers=depth + 2 * number,
                    n_tokens=12 if condition == "clean" else 10 + index % 4,
                    decay=1.0 if condition == "clean" else 1.2,
                    seed=seed,
                )
    nulls = pd.concat(
        [
            null_rows(0.3, model=model, draws=20, seed=seed + 7, depth=depth + 2 * number)
            for number, model in enumerate(models)
        ],
        ignore_index=True,
    )
    return {
        "layers": pd.concat(layers, ignore_index=True),
        "clips": pd.DataFrame.from_records(clip_rows),
        "activations": pd.DataFrame.from_records(activations),
        "nulls": nulls,
    }


def sweep_dataset() -> Any:
    """A small phase map over gain, alignment and gap from the mean-field rate (T18), in the shape of `theory.sweep`."""
    import xarray as xr

    gain, alignment, gap = np.geomspace(0.1, 3, 9), np.linspace(0.05, 1, 8), np.array([0.1, 0.5, 0.9])
    depth, dimension = np.array([8]), np.array([64])
    sigma = gain[:, None] / alignment[None, :]
    log_norm = 8 * np.log(sigma[:, :, None] * np.maximum(alignment[None, :, None], gap[None, None, :]))
    dims = ("gain", "alignment", "gap", "depth", "dimension")
    shaped = log_norm[:, :, :, None, None]
    return xr.Dataset(
        {
            "log_norm": (dims, shaped),
            "log_norm_se": (dims, np.full(shaped.shape, 0.01)),
            "log_ratio": (dims, -shaped),
            "log_ratio_se": (dims, np.full(shaped.shape, 0.01)),
            "code": (dims, np.zeros(shaped.shape, dtype=np.int32)),
        },
        coords={"gain": gain, "alignment": alignment, "gap": gap, "depth": depth, "dimension": dimension},
    )


def write_run(directory: Path, tables: dict[str, pd.DataFrame] | None = None, **settings: Any) -> Path:
    """A run directory as `spi run` leaves it, before its report is written."""
    records = directory / "records"
    records.mkdir(parents=True)
    for name, table in (tables or run_tables()).items():
        table.to_parquet(records / f"{name}.parquet")
    sweep_dataset().to_netcdf(records / "sweep.nc", engine="scipy")
    (directory / "settings.json").write_text(json.dumps({"seed": 0, "k": 4} | settings), encoding="utf-8")
    lines = [
        {"clip": "empty.wav", "code": "empty", "detail": "no samples"},
        {"clip": "noise.txt", "code": "not_audio", "detail": "<b>not audio</b>"},
    ]
    (directory / "quarantine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (directory / "timings.json").write_text(json.dumps({"stages": {"measure": 12.5}}), encoding="utf-8")
    return directory
