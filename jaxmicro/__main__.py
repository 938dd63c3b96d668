"""The `jaxmicro` command, and `python -m jaxmicro`: forked before anything large is imported."""

from jaxmicro import guard


def main() -> None:
    """Entry point of the `jaxmicro` command."""
    guard.watch()
    from jaxmicro.app.cli import main as command

    command()


if __name__ == "__main__":
    main()
