"""Puts the parts together and runs them; the only module that knows them all."""

import asyncio
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import kopf
import structlog

from .adapters.budget import Budget
from .adapters.class_file import read_classes
from .adapters.connect import connect
from .adapters.credentials import make_credentials
from .adapters.discovery import wait_until_served
from .adapters.events import KubeEvents
from .adapters.iothub import HubDevices
from .adapters.kube import KubeCluster
from .adapters.kube_api import KubeApi
from .adapters.lease import LeaseElector, LeaseName
from .adapters.relay import ArmRelay
from .adapters.watch import build_registry, operator_settings
from .api.keys import Key
from .api.tunnel_class import TunnelClassSpec
from .config import Config
from .core.names import MANAGER
from .observability import metrics as metrics_module
from .observability.health import serve_health
from .observability.metrics import Metrics
from .runtime.cache import Cache
from .runtime.guard import GuardedDevices
from .runtime.leadership import Leadership
from .runtime.memory import Memory
from .runtime.reconciler import Reconciler, World
from .runtime.sweeper import Sweeper, SweepPolicy
from .runtime.workers import Workers
from .runtime.workqueue import WorkQueue

DRAIN = timedelta(seconds=20)
"""How long passes that run may take to end at shutdown; the Pod's grace period is longer."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Lifecycle:
    """Started: the watches run. Stopping: a signal has come, or a part has failed."""

    started: asyncio.Event
    stopping: asyncio.Event

    def ready(self) -> str | None:
        """Return why the operator does not work on Tunnels, if it does not."""
        if self.stopping.is_set():
            return "stopping"
        return None if self.started.is_set() else "the watches have not started yet"


async def run(config: Config) -> None:
    """Run the operator until SIGTERM or SIGINT. Raises what kopf's watching ends with, if it fails."""
    lifecycle = Lifecycle(asyncio.Event(), asyncio.Event())
    metrics = Metrics(_now)
    async with AsyncExitStack() as stack:
        connection = await connect()
        stack.push_async_callback(connection.api.close)
        api = KubeApi(connection.api)
        world = _world(config, api, metrics, stack)
        elector = LeaseElector(api, _lease_name(config), world.leadership, time.monotonic)
        queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().call_later)
        workers = _workers(config, world, queue, metrics)
        metrics.watch(
            queue_depth=lambda: len(queue),
            active_passes=lambda: queue.active,
            oldest_pass=lambda: workers.oldest_pass().total_seconds(),
            tunnels=lambda: len(world.cache),
        )
        metrics.watch_leader(world.leadership.is_held)
        classes_file = config.tunnel_classes_file
        for klass in () if classes_file is None else read_classes(classes_file):
            world.cache.put_class(klass)
        registry = build_registry(
            world.cache, queue.add, connection.login, watch_classes=classes_file is None
        )
        port = await stack.enter_async_context(
            serve_health(
                config.health_port,
                live=lambda: "a pass is stuck" if workers.is_stuck() else None,
                ready=lifecycle.ready,
                metrics=metrics.render,
                content_type=metrics_module.CONTENT_TYPE,
            )
        )
        log.info("operator.starting", controller=config.controller_name, health_port=port)
        await wait_until_served(api, with_classes=config.tunnel_classes_file is None)
        await _run_until_stopped(
            config, registry, Work(workers, elector, _sweep(config, world)), lifecycle
        )
        log.info("operator.stopped")


def _world(config: Config, api: KubeApi, metrics: Metrics, stack: AsyncExitStack) -> World:
    """Return the ways to everything outside; the stack closes them."""
    credentials = make_credentials()
    stack.push_async_callback(credentials.close)
    rate = config.arm_per_second
    arm = Budget("Azure Resource Manager", rate=rate, burst=200, monotonic=time.monotonic)
    relay = ArmRelay(
        credentials.asynchronous, arm, metrics.observe_call, cluster_id=config.cluster_id
    )
    stack.push_async_callback(relay.close)
    cluster = KubeCluster(api)
    rate = config.methods_per_second
    methods = Budget("IoT Hub", rate=rate, burst=50, monotonic=time.monotonic)
    devices = HubDevices(
        credentials.blocking, cluster, config.namespace, methods, metrics.observe_call
    )
    stack.callback(devices.close_threads)
    metrics.watch_budgets({"arm": arm.__len__, "iothub": methods.__len__})
    guarded = GuardedDevices(devices, _now)
    metrics.watch_breakers(guarded.states)
    return World(
        cluster=cluster,
        relay=relay,
        devices=guarded,
        events=KubeEvents(api, instance=socket.gethostname(), clock=_now),
        cache=Cache(),
        memory=Memory(random.random),
        leadership=Leadership(time.monotonic),
        recorder=metrics.tunnel,
        clock=_now,
    )


def _workers(config: Config, world: World, queue: WorkQueue[Key], metrics: Metrics) -> Workers:
    reconciler = Reconciler(
        world,
        controller_name=config.controller_name,
        default_image=config.forwarder_image,
    )
    return Workers(
        queue,
        reconciler.reconcile,
        count=config.workers,
        clock=_now,
        observe=metrics.observe_pass,
    )


async def _run_until_stopped(
    config: Config, registry: kopf.OperatorRegistry, work: "Work", lifecycle: Lifecycle
) -> None:
    """Watch and work; at the end drain the workers before kopf, which cancels every task it meets."""
    stop_kopf = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work.run())
        stopping = group.create_task(lifecycle.stopping.wait())
        watching = group.create_task(_watch(config, registry, lifecycle, stop_kopf))
        await asyncio.wait({stopping, watching, working}, return_when=asyncio.FIRST_COMPLETED)
        lifecycle.stopping.set()
        await work.workers.drain(DRAIN)
        stop_kopf.set()
        if not work.is_leading:
            working.cancel()


@dataclass(slots=True)
class Work:
    """The workers, which begin once this process leads, and end when it does no more."""

    workers: Workers
    elector: LeaseElector
    sweep: Callable[[], Coroutine[None, None, None]]
    is_leading: bool = False

    async def run(self) -> None:
        """Wait for the lead, work until drained, and give the lead back. Raises when it is lost."""
        await self.elector.acquire()
        self.is_leading = True
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self.elector.keep()), group.create_task(self.sweep())]
            await self.workers.run()
            for task in others:
                task.cancel()
        await self.elector.release()


async def _watch(
    config: Config, registry: kopf.OperatorRegistry, lifecycle: Lifecycle, stop: asyncio.Event
) -> None:
    """Run kopf, and take the signals back that it takes when it starts."""
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=operator_settings(),
        # Otherwise kopf looks the user's name up, and in the image the user is a number only.
        identity=MANAGER,  # type: ignore[arg-type] # the type is not exported
        standalone=True,
        clusterwide=not config.watch_namespaces,
        namespaces=config.watch_namespaces,
        stop_flag=stop,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifecycle.stopping.set)
    lifecycle.started.set()
    await kopf.run_tasks(tasks, ignored=before)


def _sweep(config: Config, world: World) -> Callable[[], Coroutine[None, None, None]]:
    """Return what looks for left-behind hybrid connections, which does nothing when not wanted."""
    sweeper = Sweeper(
        world.cluster,
        world.relay,
        world.leadership,
        world.clock,
        SweepPolicy(config.cluster_id, is_dry=config.sweep != "delete"),
    )

    def classes() -> list[TunnelClassSpec]:
        served = (k.spec for k in world.cache.classes())
        return [spec for spec in served if spec.controller_name == config.controller_name]

    async def sweep() -> None:
        if config.sweep != "off" and config.cluster_id:
            await sweeper.run(classes)

    return sweep


def _lease_name(config: Config) -> LeaseName:
    # The Pod's name, and something that tells a restarted process from the one before it.
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    return LeaseName(config.namespace, config.lease_name, identity)


def _now() -> datetime:
    return datetime.now(UTC)
