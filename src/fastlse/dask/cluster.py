"""What the workers of a cluster have."""

from __future__ import annotations

import importlib.util
from typing import Any


def check_workers(client: Any = None) -> None:
    """Check that every worker of a `distributed` cluster can import fastlse.

    A worker that cannot read its tasks drops them, and whoever waits for the result waits for
    ever: call this once before a long computation.

    Parameters
    ----------
    client : distributed.Client, optional
        The cluster's client; None is the current one.

    Raises
    ------
    RuntimeError
        If a worker has no fastlse, or cannot import it; it names the workers.
    ValueError
        If there is no current client.

    Examples
    --------
    >>> import distributed
    >>> import fastlse.dask
    >>> with distributed.Client(processes=False, dashboard_address=":0") as client:
    ...     fastlse.dask.check_workers(client)
    """
    if client is None:
        import distributed

        client = distributed.get_client()
    # A function of Python's own: one of fastlse is what such a worker cannot read.
    found = client.run(importlib.util.find_spec, "fastlse", on_error="return")
    lacking = {
        worker: "not installed" if spec is None else str(spec)
        for worker, spec in found.items()
        if spec is None or isinstance(spec, Exception)
    }
    if lacking:
        workers = ", ".join(f"{worker} ({reason})" for worker, reason in lacking.items())
        raise RuntimeError(
            f"every worker must have fastlse, {len(lacking)} of {len(found)} have not: {workers}"
        )
