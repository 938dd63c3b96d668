"""The job of `jaxmicro quantify`: settings, run, files, figures, report."""
