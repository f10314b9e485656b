"""An executor of one's own, in one file: jobs are handed to a pool of processes, each of which does one job."""

from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from perfsuite.executors.local import run_job
from perfsuite.registry import EXECUTORS


class ProcessPool:
    """``launch`` says how a process is started that can run the session's tests; ``run_job`` does so."""

    def __init__(self, launch=None, most=1):
        """More than one at a time would disturb each other on one machine. On several machines, take one for each."""
        self._launch = launch
        self._pool = ProcessPoolExecutor(most, mp_context=get_context("spawn"), max_tasks_per_child=1)

    def submit(self, jobs):
        """Results as they are complete. When the session has seen enough, it closes the generator."""
        futures = [self._pool.submit(run_job, job, self._launch) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def close(self):
        self._pool.shutdown(cancel_futures=True)


EXECUTORS.register("process-pool", ProcessPool)  # for --perf-executor, and for benchmark_optimizations(fresh=...)
