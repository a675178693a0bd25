"""All laws, by tag."""

from __future__ import annotations

from tests.properties.laws_cones import CONE_LAWS
from tests.properties.laws_jacobian import JACOBIAN_LAWS
from tests.properties.laws_products import PRODUCT_LAWS
from tests.properties.verdicts import Law

__all__ = ["LAWS"]

LAWS: dict[str, Law] = {law.tag: law for law in (*PRODUCT_LAWS, *JACOBIAN_LAWS, *CONE_LAWS)}
"""Every law that the 10,000-example profile runs."""
