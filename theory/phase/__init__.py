"""The phase boundary of typical chains: laws of context Jacobians by the million, and the gains where they turn."""
