"""What a chain does along its depth: products, context Jacobians, reductions."""
