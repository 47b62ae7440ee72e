"""`kis`: the commands. Thin: flags to configuration, configuration to the pipeline, errors to one line."""

from testbed.cli.main import main

__all__ = ["main"]
