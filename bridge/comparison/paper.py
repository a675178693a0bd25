"""What the paper published: its numbers and its claims, each with where they stand.

Viakhirev, Borodin, Mkrtchian, "From Dispersion to Attraction: Spectral Dynamics of Hallucination Across Whisper Model
Scales", arXiv 2604.08591, Interspeech 2026. Its three models are Whisper tiny, small and large-v3-turbo. The turbo
model has four decoder layers, as many as tiny, so scale and depth are confounded in them.
"""

from __future__ import annotations

from dataclasses import dataclass

CITATION = (
    "Viakhirev, Borodin, Mkrtchian: From Dispersion to Attraction: Spectral Dynamics of Hallucination Across "
    "Whisper Model Scales. arXiv 2604.08591, Interspeech 2026."
)


@dataclass(frozen=True, slots=True)
class Published:
    """One row of the paper's Tables 1 and 2: changes under stress at K = 50.

    Attributes:
        component: decoder component, as in the activations records.
        model: the paper's name of the model.
        n_eff_pct: change of N_eff, per cent.
        log10_kf: change of log10 K_f.
        alpha: change of alpha.
        source: where it stands.
    """

    component: str
    model: str
    n_eff_pct: float
    log10_kf: float
    alpha: float
    source: str = "Tables 1-2"


TABLES = (
    Published("cross-attention", "tiny", -11.98, 2.93, 0.17),
    Published("cross-attention", "small", -13.40, 3.87, 0.21),
    Published("cross-attention", "large", -4.70, 3.83, 0.14),
    Published("self-attention", "large", -2.34, 4.05, 0.008),
    Published("feed-forward", "small", -13.59, 4.65, 0.22),
)

ALSO = (
    ("alpha of self-attention in large", "> 9", "text"),
    ("eigenvalue ratio stressed / clean in the tail of large self-attention", "up to 1.05", "Figure 3"),
    ("alignment kappa between layers", "inferred, never measured", "text"),
)

FIGURES = {
    1: "changes by layer and component",
    2: "final decoder layer, N_eff against alpha, one cloud a model",
    3: "tail eigenvalue ratio, stressed over clean",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim as the ledger lists it.

    Attributes:
        id: C1..C15.
        title: in a few words.
        says: what the paper states.
        source: where, as far as the notes this was built from say.
    """

    id: str
    title: str
    says: str
    source: str


CLAIMS = (
    Statement(
        "C1",
        "Lemma 1: perturbation grows linearly",
        "The relative error of the dominant path is at most L xi / kappa.",
        "Lemma 1 (P1)",
    ),
    Statement(
        "C2",
        "Gain below 1 bounds the Jacobian",
        "If sup rho < 1, early injections decay exponentially and ||J_L|| is bounded in L.",
        "Regime I (P2)",
    ),
    Statement(
        "C3",
        "Four conditions give rank-1 collapse",
        "With rho >= 1, kappa close to 1, coherent injections and L xi / kappa << 1, J_L is one direction plus small "
        "noise.",
        "Regime II (P3)",
    ),
    Statement(
        "C4",
        "Random directions cannot align",
        "For random directions E kappa ~ d^(-1/2), so Regime II cannot arise by chance.",
        "random directions (P4)",
    ),
    Statement("C5", "Training creates alignment", "Training drives consecutive layers into alignment.", "Section 2.4"),
    Statement(
        "C6",
        "Tiny and small lose cross-attention rank",
        "Under stress N_eff of cross-attention falls by 11.98 % (tiny) and 13.40 % (small).",
        "Tables 1-2",
    ),
    Statement(
        "C7",
        "Large compresses self-attention and hardens its slope",
        "Under stress N_eff of self-attention falls by 2.34 % in large, and alpha, above 9, rises by 0.008.",
        "Tables 1-2",
    ),
    Statement(
        "C8",
        "K_f rises with disintegration",
        "Under stress log10 K_f rises by 2.93 to 4.65.",
        "Tables 1-2",
    ),
    Statement(
        "C9",
        "The final layer's phase diagram separates two clusters",
        "In the plane of N_eff and alpha the final decoder layers of small and large models form separate clouds.",
        "Figure 2",
    ),
    Statement(
        "C10",
        "The tail gains energy in large models",
        "lambda_i(stressed) / lambda_i(clean) rises above 1 in the tail, up to 1.05.",
        "Figure 3",
    ),
    Statement(
        "C11",
        "Log-probability does not see the failure",
        "While it hallucinates the model stays locally confident.",
        "text",
    ),
    Statement(
        "C12",
        "Consecutive layers of large models are aligned",
        "kappa is close to 1 in large models; inferred there, never measured.",
        "text",
    ),
    Statement(
        "C13",
        "The context Jacobian decays (small) or becomes rank-1 (large)",
        "Small models are in Regime I, large ones in Regime II, under stress.",
        "title and text",
    ),
    Statement(
        "C14",
        "The proxies track the Jacobian's regime",
        "N_eff, alpha and K_f of activations stand for the regime of the context Jacobian.",
        "text",
    ),
    Statement(
        "C15",
        "alpha rises before a hallucination",
        "The slope of the spectrum rises before the transcript fails.",
        "text",
    ),
)
