"""Null models: what the chain of this architecture looks like without training, directions or order."""

from empirical.nulls.measuring import CLIPS, CONDITIONS, NullInput, measure_nulls, null_inputs, write_nulls
from empirical.nulls.models import KINDS, null_model, random_singular_vectors, random_weights, shuffled_layers

__all__ = [
    "CLIPS",
    "CONDITIONS",
    "KINDS",
    "NullInput",
    "measure_nulls",
    "null_inputs",
    "null_model",
    "random_singular_vectors",
    "random_weights",
    "shuffled_layers",
    "write_nulls",
]
