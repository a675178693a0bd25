"""Simulations behind the ledger's claims C1 to C5."""
