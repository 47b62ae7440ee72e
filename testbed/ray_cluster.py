"""A Ray cluster for those who outgrow one machine: its nodes need this project, with the extras that the work needs.

How a cluster lets its users in is between Ray and them (RAY_AUTH_MODE, RAY_AUTH_TOKEN).
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from testbed.errors import ConfigError
from testbed.installed import how_to_install
from workloads.errors import KisError

LOCAL = "local"
Item = TypeVar("Item")
Result = TypeVar("Result")


def load_ray() -> Any:
    """The package; ConfigError if it is not installed."""
    try:
        import ray  # noqa: PLC0415 - not everybody has it
    except ImportError:
        raise ConfigError(
            f"--ray needs Ray, which is not installed: {how_to_install('ray')}, or leave --ray out: then this machine "
            "does the work"
        ) from None
    return ray


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """For the length of the block. address: of a cluster, as ray.init takes it; LOCAL starts one on this machine.

    ConfigError if the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if address == LOCAL:
            # Ray listens on every interface, and who is let in runs what he likes: a token that nobody else knows.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            ray.init(address=LOCAL, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"--ray {address}: no Ray cluster answers there ({' '.join(str(error).split())[:200]}): give an address "
            f"as ray.init takes it, or {LOCAL}"
        ) from None
    signal.signal(signal.SIGTERM, on_term)  # Ray's own handler aborts the process
    try:
        yield
    finally:
        ray.shutdown()


def fetched(ray: Any, reference: Any, what: str) -> Any:
    """A task's result. A KisError of the task is raised as it is, any other failure as a ConfigError that names
    `what`."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, KisError):
            raise error.cause from None
        raise ConfigError(f"{what} failed on the Ray cluster: {_last_line(error)}") from error
    except ray.exceptions.RayError as error:
        raise ConfigError(f"{what} was lost on the Ray cluster: {_last_line(error)}: run it again") from error


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def map_on_ray(task: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    """Each item's result, in their order; a task has one core."""
    ray = load_ray()
    with connected(ray, address):
        remote = ray.remote(task)
        references = [remote.remote(item) for item in items]
        for number, reference in enumerate(references, start=1):
            yield fetched(ray, reference, f"cell {number} of {len(items)}")
