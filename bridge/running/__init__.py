"""The run as work: settings, inputs, tasks, worker processes, whole parts, and what a run records."""
