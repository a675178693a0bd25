"""Minimal chains on which a published statement, or a tempting one, fails inside its own hypotheses."""
