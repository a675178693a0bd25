"""Null models: what the chain of this architecture looks like without training, directions or order."""

from empirical.nulls.inputs import CLIPS, CONDITIONS, NullInput, null_inputs
from empirical.nulls.measuring import CONTEXTS, Contexts, check_null_request, measure_nulls
from empirical.nulls.models import (
    KINDS,
    null_model,
    random_singular_vectors,
    random_weights,
    shuffled_layers,
    singular_values,
)
from empirical.nulls.records import write_nulls

__all__ = [
    "CLIPS",
    "CONDITIONS",
    "CONTEXTS",
    "KINDS",
    "Contexts",
    "NullInput",
    "check_null_request",
    "measure_nulls",
    "null_inputs",
    "null_model",
    "random_singular_vectors",
    "random_weights",
    "shuffled_layers",
    "singular_values",
    "write_nulls",
]
