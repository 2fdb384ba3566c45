"""A connection to Ray, and rows through pools of its actors by Ray Data, in order: for any work, not only pictures."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakSet

from hafbench.engines.units import Row
from hafbench.errors import HafError, RunStopped, one_line
from hafbench.processes import stderr_closed

T = TypeVar("T")

SECONDS = 10.0
"""To wait for an address to answer."""
PATIENCE = 3600.0
"""Seconds without any progress after which the run stops, as where no node is left that could replace a lost one."""
MOST_BLOCKS = 10_000
"""Of Ray Data: its bookkeeping of a block takes memory of this process until all rows are through."""
AT_ONCE = 50_000
"""Rows that Ray Data has at once, in memory of this process, such as batches that are drawn together."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray for this process: what it is connected to already, the cluster at `address`, or what Ray finds or starts.

    Raises HafError where Ray is not installed, or the address does not answer within SECONDS.
    """
    try:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters of its C++ part reaches us as an error
        import ray
        import ray.data
    except ImportError as error:
        raise HafError('--engine ray needs Ray: pip install "ray[data,default]".') from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        try:
            yield
        finally:
            _end_streams()
        return
    _check(address)
    try:
        with stderr_closed():  # its C++ part says there, as it starts, that it has read the level of its log
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises errors of many kinds where it cannot connect
        where = f"--address {address}" if address else "Ray"
        raise HafError(f"{where}: Ray cannot be reached or started ({one_line(error)}).") from error
    try:
        yield
    finally:
        _end_streams()
        ray.shutdown()


_STREAMS: WeakSet[Generator[Row]] = WeakSet()
"""Rows that are not all taken yet."""


def _end_streams() -> None:
    """End the work of those who stopped taking rows, as on Ctrl-C, while there still is a connection to do so."""
    for rows in list(_STREAMS):
        rows.close()


def _check(address: str | None) -> None:
    if address is None or address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise HafError(
            f"--address {address}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379, on a machine that "
            "belongs to the cluster, or auto."
        )
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except (OSError, OverflowError) as error:
        raise HafError(
            f"--address {address} does not answer ({one_line(error)}); start the cluster with `ray start --head`, or "
            "correct the address."
        ) from error


@dataclass(frozen=True)
class Stage:
    """What is done with each row: by a class, of which so many actors are made with `given`, or by a function.

    A function runs on the machine of the command, as for reading its disk.
    """

    work: Any
    given: tuple[Any, ...] = ()
    actors: int = 0
    cpus: float = 0.0
    gpus: float = 0.0


def in_parts(items: Iterable[T]) -> Iterator[list[T]]:
    """So many items as Ray Data is given at a time: it takes a list, and has no source that is filled while it works.

    Between two parts the actors are started anew, and load their models again.
    """
    rest = iter(items)
    while part := list(islice(rest, AT_ONCE)):
        yield part


def stream(rows: Sequence[Row], stages: Sequence[Stage], in_flight_mb: int) -> Iterator[Row]:
    """The rows after all stages, in order, as they are asked for: at most so many MB are under way.

    An actor or a node that ends is replaced, and what it did is done again. Raises RunStopped where that fails.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext, ExecutionResources, TaskPoolStrategy

    if not rows:
        return
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=in_flight_mb * 2**20)
    # Rows go on as soon as they are done; of what is not done, Ray expects blocks of this size.
    context.target_max_block_size = 2**16
    context.enable_progress_bars = False  # `progress` shows pictures; Ray's dashboard shows the stages
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = PATIENCE
    with DataContext.current(context):
        data = ray.data.from_items(list(rows), override_num_blocks=min(len(rows), MOST_BLOCKS))
        for stage in stages:
            if stage.actors:
                data = data.map(
                    stage.work,
                    fn_constructor_args=stage.given,
                    compute=ActorPoolStrategy(size=stage.actors),
                    num_cpus=stage.cpus,
                    num_gpus=stage.gpus,
                )
            else:
                here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
                data = data.map(stage.work, compute=TaskPoolStrategy(size=2), num_cpus=0, label_selector=here)
        try:
            taken = iter(data.iter_rows())
            _STREAMS.add(taken)
            yield from taken
        except (ray.exceptions.RayError, ray.exceptions.RaySystemError) as error:
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            raise RunStopped(
                f"The Ray cluster failed ({' '.join(last)[:200].strip()}); run the same command again to resume."
            ) from error
