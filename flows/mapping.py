"""Prefect's tasks as the `map` that stages take: one visible task a shard.

A task gets an index and closes over the rest, and its result stays in memory: Prefect keeps neither items nor results,
and finding finished work again is the store's business. Tasks are threads, which end with the run however it ends.
Costs about 20 ms a task, so shards should take seconds.
"""

from collections.abc import Callable, Iterable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from pipeline.mapping import work_name
from pipeline.settings import Settings


def task_map(fn: Callable[[Any], Any], items: Iterable[Any], /) -> list[Any]:
    """`map(fn, items)` as tasks of the running flow, as many at once as the settings name workers.

    The first failure is raised after the others have finished.
    """
    all_items, workers = list(items), Settings.from_environment().workers or 1
    name = work_name(fn)

    def shard(number: int) -> Any:
        return fn(all_items[number])

    as_task = task(name=name, task_run_name=f"{name}-{{number}}", cache_policy=NO_CACHE, persist_result=False)(shard)
    futures: list[PrefectFuture[Any]] = []
    for number in range(len(all_items)):
        if number >= workers:
            futures[number - workers].wait()
        futures.append(as_task.submit(number))
    for future in futures:
        future.wait()
    return [future.result() for future in futures]
