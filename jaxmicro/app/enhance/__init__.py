"""Enhancement of slices: model file, run, files, figures, report and demonstration."""
