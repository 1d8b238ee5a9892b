"""From the table of services to processes: who is started how often, with which command and environment.

A function of the table, the places, the user's settings and the ports; opens nothing and starts nothing.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cli.places import Places
from cli.refusal import EXIT_USAGE, Refusal
from cli.topology import BY_NAME, SERVICES, Service, Source, Variable
from runtime.config import Address

# More processes than this on one machine is a mistyped number.
REPLICAS_MAX = 16


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to run."""

    service: Service
    number: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    uid: int | None  # None: the user that `up` is
    rpc: Address | None
    http: Address | None

    @property
    def name(self) -> str:
        return f"{self.service.name}-{self.number}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for and the machine allows."""

    places: Places
    environ: Mapping[str, str]
    replicas: Mapping[str, int]
    listen: Mapping[str, Address]  # by the port's name
    drops: bool  # services run under their own uids
    redis_url: str


def parse_replicas(text: str) -> dict[str, int]:
    """`queue=2,remote=3` as numbers for every service; Refusal names what cannot be."""
    counts = {service.name: 1 for service in SERVICES}
    for part in filter(None, text.split(",")):
        name, _, digits = part.partition("=")
        service = BY_NAME.get(name)
        if service is None or not digits.isdecimal():
            raise Refusal(f"--replicas {part}: write service=number, for example queue=2,remote=3", EXIT_USAGE)
        most = 1 if service.ports or not service.answers_grpc else REPLICAS_MAX
        if int(digits) > most:
            raise Refusal(f"--replicas {part}: at most {most} of {name} can run on one machine", EXIT_USAGE)
        counts[name] = int(digits)
    return counts


def wire(wish: Wish, choose: Callable[[], Address]) -> list[Launch]:
    """Every process but redis, each with its own ports and with the addresses of those it calls."""
    names = [
        (service, number)
        for service in SERVICES
        if service.answers_grpc
        for number in range(wish.replicas[service.name])
    ]
    rpc = {(service.name, number): choose() for service, number in names}
    peers = {
        service.name: ",".join(str(address) for (name, _), address in rpc.items() if name == service.name)
        for service in SERVICES
    }
    launches = []
    for service, number in names:
        address, page = rpc[service.name, number], choose()
        own = {"INSTANCE": f"{service.name}-{number}", "RPC_BIND": str(address), "HTTP_BIND": str(page)}
        launches.append(
            Launch(
                service=service,
                number=number,
                command=(sys.executable, *service.command[1:]),
                environment=_environment(wish, service, own, peers),
                uid=service.uid if wish.drops and not service.starts_as_root else None,
                rpc=address,
                http=page,
            )
        )
    return launches


def redis_launch(command: tuple[str, ...], environ: Mapping[str, str], drops: bool, address: Address) -> Launch:
    """The Redis server as a process like the others; `http` is absent, `rpc` is where it answers."""
    service = BY_NAME["redis"]
    return Launch(service, 0, command, dict(environ), service.uid if drops else None, rpc=address, http=None)


def _environment(wish: Wish, service: Service, own: Mapping[str, str], peers: Mapping[str, str]) -> dict[str, str]:
    ours = {variable.name for every in SERVICES for variable in every.environment} | {"PYTHONPATH", "PYTHONSAFEPATH"}
    environment = {name: value for name, value in wish.environ.items() if name not in ours}
    for variable in service.environment:
        value = _value(variable, wish, service, own, peers)
        # An empty PASSED variable is not set at all, so that the service's own default counts.
        if value or variable.source is not Source.PASSED:
            environment[variable.name] = value
    return environment


def _value(variable: Variable, wish: Wish, service: Service, own: Mapping[str, str], peers: Mapping[str, str]) -> str:
    match variable.source:
        case Source.INSTANCE | Source.RPC | Source.HTTP:
            return own[variable.name]
        case Source.DIRECTORY:
            return wish.places.directory(variable.of.format(service=service.name))
        case Source.LISTEN:
            return str(wish.listen[variable.of])
        case Source.PEERS:
            return peers[variable.of]
        case Source.REDIS:
            return wish.redis_url
        case Source.PASSED:
            return wish.environ.get(variable.name) or variable.of
        case Source.FIXED:
            return variable.of
        case Source.FRONT:
            return str(service.uid) if wish.drops else ""
