"""The job of `jaxmicro posterior`: run, figures, report."""
