"""Puts the parts together and runs them; the only module that knows them all."""

import asyncio
import random
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import kopf
import structlog
from azure.core.credentials import TokenCredential

from .adapters.arm_client import make_client
from .adapters.budget import Budget
from .adapters.calls import Terms
from .adapters.class_file import read_classes
from .adapters.connect import connect
from .adapters.credentials import make_credentials
from .adapters.discovery import (
    have_routes_gone,
    known_routes,
    until_routes_change,
    wait_until_served,
)
from .adapters.events import KubeEvents
from .adapters.hearing import Hearing
from .adapters.hub_client import make_hub_client
from .adapters.inventory import KubeInventory
from .adapters.iothub import HubDevices
from .adapters.kube import KubeCluster
from .adapters.kube_api import KubeApi
from .adapters.lanes import Lanes
from .adapters.lease import LeaseElector, LeaseName
from .adapters.relay import ArmRelay
from .adapters.watch import build_registry, children_with, operator_settings
from .api import tunnel, tunnel_class
from .api.keys import Key
from .api.tunnel_class import TunnelClassSpec
from .config import Config
from .core.names import MANAGER
from .core.observed import Kind
from .observability import metrics as metrics_module
from .observability.health import serve_health
from .observability.metrics import Metrics
from .runtime.cache import Cache
from .runtime.guard import GuardedDevices
from .runtime.leadership import Leadership
from .runtime.memory import Memory
from .runtime.reconciler import Reconciler
from .runtime.resync import Resync
from .runtime.rollout import Rollout
from .runtime.sweeper import Sweeper, SweepPolicy
from .runtime.telling import MeasuredEvents
from .runtime.watches import Watch, Watches
from .runtime.workers import Workers
from .runtime.workqueue import WorkQueue
from .runtime.world import World

DRAIN = timedelta(seconds=20)
"""How long passes that run may take to end at shutdown; the Pod's grace period is longer."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Lifecycle:
    """Started: the watches run. Stopping: a signal has come, or a part has failed.

    Stale: what runs was made for other kinds of objects than there are now.
    """

    started: asyncio.Event
    stopping: asyncio.Event
    is_stale: bool = False

    def ready(self) -> str | None:
        """Return why the operator does not work on Tunnels, if it does not."""
        if self.stopping.is_set():
            return "stopping"
        return None if self.started.is_set() else "the watches have not started yet"


async def run(config: Config) -> bool:
    """Run the operator until SIGTERM or SIGINT. Raises what kopf's watching ends with, if it fails.

    Return whether to run it again: the kinds of objects that there are to watch are not the same any more.
    """
    lifecycle = Lifecycle(asyncio.Event(), asyncio.Event())
    metrics = Metrics(_now)
    async with AsyncExitStack() as stack:
        connection = await connect()
        stack.push_async_callback(connection.api.close)
        stack.push_async_callback(connection.lease.close)
        watches = Watches(time.monotonic)
        hearing = Hearing(connection.login, watches)
        stack.push_async_callback(hearing.close)
        api = KubeApi(connection.api)
        queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().call_later)
        world = _world(config, api, metrics, Rollout(queue.add), stack)
        lease = KubeApi(connection.lease), _lease_name(config)
        elector = LeaseElector(*lease, world.leadership, time.monotonic)
        workers = _workers(config, world, queue, metrics)
        _show(metrics, world, queue, workers, watches)
        classes_file = config.tunnel_classes_file
        for klass in () if classes_file is None else read_classes(classes_file):
            world.cache.put_class(klass)
        port = await stack.enter_async_context(
            serve_health(
                config.health_port,
                live=lambda: "a pass is stuck" if workers.is_stuck() else watches.stale(),
                ready=lifecycle.ready,
                metrics=metrics.render,
                content_type=metrics_module.CONTENT_TYPE,
            )
        )
        log.info("operator.starting", controller=config.controller_name, health_port=port)
        await wait_until_served(api, with_classes=classes_file is None)
        world.cache.routes = await known_routes(api)
        resync = Resync(world.cache, _inventory(config, world, api), queue.add)
        watching = _watching(config, world, queue, hearing.login)
        others = (elector.keep, _sweep(config, world), resync.run)
        work = Work(workers, elector, partial(_know_all, watches, watching, resync), others)
        await _run_until_stopped(watching, work, lifecycle, api)
        log.info("operator.stopped", again=lifecycle.is_stale)
        return lifecycle.is_stale


async def _know_all(watches: Watches, watching: "Watching", resync: Resync) -> None:
    """Learn of all that there is, in a way that loses nothing of what changes meanwhile."""
    await watches.until_begun(watching.watches())
    tunnels = await resync.fill()
    log.info("operator.working", tunnels=tunnels)


def _world(
    config: Config, api: KubeApi, metrics: Metrics, rollout: Rollout, stack: AsyncExitStack
) -> World:
    """Return the ways to everything outside; the stack closes them."""
    credentials = make_credentials()
    stack.push_async_callback(credentials.close)
    leadership = Leadership(time.monotonic)
    rate = config.arm_per_second
    arm = Budget("Azure Resource Manager", rate=rate, burst=200, monotonic=time.monotonic)
    client = partial(make_client, credentials.asynchronous)
    terms = Terms(arm, metrics.observe_call, leadership.require)
    relay = ArmRelay(client, terms, cluster_id=config.cluster_id)
    stack.push_async_callback(relay.close)
    cache = Cache(reads_namespaces=config.tunnel_classes_file is None)
    cluster = KubeCluster(api, lambda: cache.routes)
    devices = _devices(config, cluster, credentials.blocking, metrics, leadership)
    stack.callback(devices.close_threads)
    metrics.watch_budgets({"arm": arm.__len__, "iothub": devices.waiting})
    guarded = GuardedDevices(devices, _now)
    events = KubeEvents(api, instance=socket.gethostname(), clock=_now)
    metrics.watch_breakers(guarded.states)
    return World(
        cluster=cluster,
        relay=relay,
        devices=guarded,
        events=MeasuredEvents(events, _now),
        cache=cache,
        memory=Memory(random.random),
        leadership=leadership,
        recorder=metrics.tunnel,
        clock=_now,
        rollout=rollout,
    )


def _devices(
    config: Config,
    cluster: KubeCluster,
    credential: TokenCredential,
    metrics: Metrics,
    leadership: Leadership,
) -> HubDevices:
    def hub_terms() -> Terms:
        rate = config.methods_per_second
        methods = Budget("IoT Hub", rate=rate, burst=50, monotonic=time.monotonic)
        return Terms(methods, metrics.observe_call, leadership.require)

    return HubDevices(
        partial(make_hub_client, credential),
        cluster,
        config.namespace,
        hub_terms,
        # A quarter of the workers is left for what has nothing to do with devices.
        Lanes(config.workers * 3 // 4, time.monotonic),
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


def _show(
    metrics: Metrics, world: World, queue: WorkQueue[Key], workers: Workers, watches: Watches
) -> None:
    """Let each scrape see what there is to do, and who waits for what."""
    metrics.watch(
        queue_depth=lambda: len(queue),
        active_passes=lambda: queue.active,
        oldest_pass_seconds=lambda: workers.oldest_pass().total_seconds(),
        tunnels=lambda: len(world.cache),
        rollout_waiting=lambda: world.rollout.waiting,
        place_waiting=lambda: world.cache.waiting,
    )
    metrics.watch_leader(world.leadership.is_held)
    metrics.watch_silences(lambda: watches.silences().items())


def _inventory(config: Config, world: World, api: KubeApi) -> KubeInventory:
    return KubeInventory(
        api,
        config.watch_namespaces,
        with_classes=config.tunnel_classes_file is None,
        routes=world.cache.routes,
    )


async def _run_until_stopped(
    watch: "Watching", work: "Work", lifecycle: Lifecycle, api: KubeApi
) -> None:
    """Watch and work; at the end drain the workers before kopf, which cancels every task it meets."""
    stop_kopf = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work.run())
        stopping = group.create_task(lifecycle.stopping.wait())
        watching = group.create_task(_watch_what_is_there(watch, lifecycle, stop_kopf, api))
        staling = group.create_task(until_routes_change(api, watch.routes))
        await asyncio.wait(
            {stopping, watching, working, staling}, return_when=asyncio.FIRST_COMPLETED
        )
        lifecycle.is_stale |= staling.done() and not lifecycle.stopping.is_set()
        lifecycle.stopping.set()
        staling.cancel()
        await work.workers.drain(DRAIN)
        stop_kopf.set()
        if not work.is_leading:
            working.cancel()


@dataclass(slots=True)
class Work:
    """The workers, which begin once this process leads, and end when it does no more."""

    workers: Workers
    elector: LeaseElector
    prepare: Callable[[], Awaitable[None]]
    """What has to be done, while this process leads, before anything is decided."""

    others: tuple[Callable[[], Coroutine[None, None, None]], ...]
    """What runs beside the workers while this process leads."""

    is_leading: bool = False

    async def run(self) -> None:
        """Wait for the lead, work until drained, and give the lead back. Raises when it is lost."""
        await self.elector.acquire()
        self.is_leading = True
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(other()) for other in self.others]
            await self.workers.run(self.prepare)
            for task in others:
                task.cancel()
        await self.elector.release()


@dataclass(frozen=True, slots=True)
class Watching:
    """What kopf watches, with which kinds of routes, and in which namespaces: in all when there are none."""

    routes: Mapping[Kind, str]
    registry: kopf.OperatorRegistry
    settings: kopf.OperatorSettings
    namespaces: tuple[str, ...]
    with_cluster: bool

    def watches(self) -> set[Watch]:
        """Return all watches that there will be."""
        inside = [tunnel.PLURAL, *(plural for _, _, plural in children_with(self.routes))]
        found = {Watch(name, where) for name in inside for where in self.namespaces or ("",)}
        cluster = {Watch(tunnel_class.PLURAL, ""), Watch("namespaces", "")}
        return found | (cluster if self.with_cluster else set())


def _watching(
    config: Config,
    world: World,
    queue: WorkQueue[Key],
    login: Callable[[], Awaitable[kopf.AiohttpSession]],
) -> Watching:
    routes, with_cluster = world.cache.routes, config.tunnel_classes_file is None
    children = children_with(routes)
    registry = build_registry(world.cache, queue.add, login, children, watch_cluster=with_cluster)
    settings = operator_settings(children)
    return Watching(routes, registry, settings, config.watch_namespaces, with_cluster)


async def _watch_what_is_there(
    watching: Watching, lifecycle: Lifecycle, stop: asyncio.Event, api: KubeApi
) -> None:
    """Watch; a kind that goes away, over which kopf fails, is no failure."""
    try:
        await _watch(watching, lifecycle, stop)
    except Exception as error:
        if not await have_routes_gone(api, watching.routes):
            raise
        log.warning("watch.ended", error=str(error))
        lifecycle.is_stale = True


async def _watch(watching: Watching, lifecycle: Lifecycle, stop: asyncio.Event) -> None:
    """Run kopf, and take the signals back that it takes when it starts."""
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=watching.registry,
        settings=watching.settings,
        # Otherwise kopf looks the user's name up, and in the image the user is a number only.
        identity=MANAGER,  # type: ignore[arg-type] # the type is not exported
        standalone=True,
        clusterwide=not watching.namespaces,
        namespaces=watching.namespaces,
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
        world.cache.class_of,
    )

    def classes() -> list[TunnelClassSpec]:
        served = (k.spec for k in world.cache.classes_in_use())
        return [spec for spec in served if spec.controller_name == config.controller_name]

    async def sweep() -> None:
        if config.sweep != "off" and config.cluster_id:
            await sweeper.run(classes)
        else:
            log.info("sweep.off", cluster_id=config.cluster_id, sweep=config.sweep)

    return sweep


def _lease_name(config: Config) -> LeaseName:
    # The Pod's name, and something that tells a restarted process from the one before it.
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    return LeaseName(config.namespace, config.lease_name, identity)


def _now() -> datetime:
    return datetime.now(UTC)
