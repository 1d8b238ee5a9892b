"""An event loop in virtual time, one for each simulated process, and the executors that its threads come from.

What is ready runs in the order in which it became ready, as in asyncio's own loop; when that is, compared with other
processes, the seed decides. Knows nothing of what the process does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from random import Random
from typing import Any

from tests.sim.scheduler import Actor, Killed, Owner, Scheduler

# Until a process that has something to do gets a processor.
_JITTER_US = 300
# Between a thread's answer and the loop's notice of it.
_POOL_THREADS = 4


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one process. `actor` is its thread; processes that never touch a disk share the main one."""

    def __init__(self, scheduler: Scheduler, owner: Owner, actor: Actor, chance: Random) -> None:
        self.scheduler = scheduler
        self.owner = owner
        self.chance = chance
        self.tasks: list[asyncio.Task[Any]] = []
        self.errors: list[str] = []
        self.names: Callable[[], list[tuple[str, int]]] = list
        self._actor = actor
        self._ready: deque[asyncio.Handle] = deque()
        self._awake = False
        self._pool = SimExecutor(_POOL_THREADS, owner=owner, loop=self, kind="pool")
        self._executors: list[SimExecutor] = [self._pool]

    # -- time and order -----------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.scheduler.now_us / 1_000_000

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._wake()
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        timer = asyncio.TimerHandle(when, callback, args, self, context)

        def expire() -> None:
            if not timer.cancelled():
                self._ready.append(timer)
                self._wake()

        self.scheduler.at(round((when - self.time()) * 1_000_000), self.owner, expire)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self.scheduler.at(self.chance.randrange(_JITTER_US), self.owner, self._turn, self._actor)

    def _turn(self) -> None:
        """Runs what is ready now, as one iteration of asyncio's loop does."""
        asyncio._set_running_loop(self)
        self.scheduler.outside = self.owner
        try:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                if self.owner.dead:
                    return
        finally:
            asyncio._set_running_loop(None)
        self._awake = False
        if self._ready:
            self._wake()

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        if len(self.tasks) > 200:
            self.tasks = [one for one in self.tasks if not one.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed) and not self.owner.dead:
            self.errors.append(f"{context.get('message')}: {error!r}")

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (name, number)) for name, number in self.names()]

    # -- threads ------------------------------------------------------------------------------------------------------

    def executor(self, max_workers: int = 1, thread_name_prefix: str = "", **_: Any) -> "SimExecutor":
        """What ThreadPoolExecutor is to code of this process."""
        made = SimExecutor(
            max_workers, owner=self.owner, loop=self, kind=thread_name_prefix.partition("-")[0] or "pool"
        )
        self._executors.append(made)
        return made

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        future = self.create_future()
        (executor or self._pool).put(future, lambda: func(*args))
        return future


class SimExecutor:
    """Threads of one process, in which jobs begin in the order in which they came."""

    def __init__(self, max_workers: int, *, owner: Owner, loop: SimLoop, kind: str) -> None:
        self._limit = max_workers
        self._owner = owner
        self._loop = loop
        self._kind = kind
        self._idle: list[Actor] = []
        self._made = 0
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._busy = 0
        self._closed = False

    def put(self, future: "asyncio.Future[Any]", work: Callable[[], Any]) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._waiting.append((future, work))
        self._begin()

    def submit(self, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """As `run_in_executor`; the future is the loop's."""
        future = self._loop.create_future()
        self.put(future, lambda: func(*args))
        return future

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """No more jobs; waits, as the real one does, in the thread that calls."""
        self._closed = True
        if cancel_futures:
            self._waiting.clear()
        while wait and (self._busy or self._waiting):
            self._loop.scheduler.park(500)

    def _begin(self) -> None:
        while self._waiting and self._busy < self._limit:
            future, work = self._waiting.popleft()
            self._busy += 1
            actor = self._idle.pop() if self._idle else self._loop.scheduler.actor(self._owner, self._kind)
            jitter = self._loop.chance.randrange(_JITTER_US)
            self._loop.scheduler.at(jitter, self._owner, partial(self._run, actor, future, work), actor)

    def _run(self, actor: Actor, future: "asyncio.Future[Any]", work: Callable[[], Any]) -> None:
        result: Any = None
        error: BaseException | None = None
        if not future.cancelled():
            try:
                result = work()
            except Killed:
                return
            except BaseException as raised:
                error = raised
        self._busy -= 1
        self._idle.append(actor)
        self._begin()
        self._loop.call_soon(_tell, future, result, error)


def _tell(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
