"""What the model says of it, and how far that is from what was said."""
