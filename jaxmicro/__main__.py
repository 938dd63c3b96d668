"""`python -m jaxmicro` is the `jaxmicro` command."""

from jaxmicro.app.cli import main

main()
