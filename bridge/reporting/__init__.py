"""What a reader sees: the report, its figures and tables, and results.json."""
