"""Deep chains trained on a task that needs the context, and the alignment of their layers on the way."""
