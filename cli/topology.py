"""The one table of services: what runs, as whom, with which ports, directories and environment.

`up` starts processes from it, and a contract test holds docker-compose.yml and k8s/ against it, so the three never
drift apart. It knows names and numbers only; it opens no file and starts nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

# In a container every service listens at these ports; `up` picks free ones on loopback.
CONTAINER_RPC_PORT = 5_700
CONTAINER_HTTP_PORT = 9_464
CONTAINER_STATE = "/state"
# What the composed stack calls itself while MAIL_NAME is not set; nobody can send mail to that name.
EXAMPLE_NAME = "mail.example.test"

# The alias account's uid when the passwd file has no entry of that name, and the first account `init` makes.
ALIAS_UID = 7_790
DEMO_UID = 7_801

# The cli's certificate is for whoever runs the cli: root, or the invoking user.
ROLES = ("smtpd", "queue", "local", "remote", "pop3", "cli")


class Source(Enum):
    """Where the value of an environment variable comes from."""

    INSTANCE = "the instance's name, such as queue-0"
    DIRECTORY = "the directory of that name in the state directory"
    RPC = "where the service answers gRPC"
    HTTP = "where the service answers /healthz, /readyz and /metrics"
    LISTEN = "where the service listens to the world"
    PEERS = "the gRPC addresses of another service's replicas"
    REDIS = "the Redis server, without credentials; empty when there is none"
    PASSED = "the variable of the same name that the user set, else the default"
    FIXED = "always the same"
    FRONT = "the uid of the front when the service starts as root; empty otherwise"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable of a service. `of` is the directory, port, service or literal that `source` names."""

    name: str
    source: Source
    of: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port to the world: its name in the `ready` line, the user's variable, its defaults."""

    name: str
    variable: str
    default: int
    container: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the state directory that a service needs. "{service}" in its name stands for the service's."""

    name: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One row: everything that `up`, compose and Kubernetes must agree on."""

    name: str
    uid: int
    command: tuple[str, ...]
    environment: tuple[Variable, ...] = ()
    ports: tuple[Port, ...] = ()
    directories: tuple[Directory, ...] = ()
    starts_as_root: bool = False  # needs SETUID and SETGID for its spawner; its front then takes `uid`
    needs: tuple[str, ...] = ()  # whom it calls

    @property
    def answers_grpc(self) -> bool:
        """Whether it answers gRPC health."""
        return self.name != "redis"


_EVENTS = "log/events/{service}"
SUBMIT = "run/submit"  # where local's sockets are, over which programs hand in mail

_COMMON = (
    Variable("INSTANCE", Source.INSTANCE),
    Variable("CONTROL_DIR", Source.DIRECTORY, "control"),
    Variable("TLS_DIR", Source.DIRECTORY, "tls"),
    Variable("EVENTS_DIR", Source.DIRECTORY, _EVENTS),
    Variable("EVENTS_KEEP_DAYS", Source.PASSED, "14"),
    Variable("LOG_FORMAT", Source.PASSED, "qmail"),
    Variable("RPC_BIND", Source.RPC),
    Variable("HTTP_BIND", Source.HTTP),
    Variable("TIME_SCALE", Source.PASSED, "1"),
)
_COMMON_DIRECTORIES = (Directory("control"), Directory("tls"), Directory(_EVENTS, writable=True))
_QUEUES = Variable("QUEUE_ADDRS", Source.PEERS, "queue")
_LOCALS = Variable("LOCAL_ADDRS", Source.PEERS, "local")
_ACCOUNTS = Variable("ACCOUNTS_DIR", Source.DIRECTORY, "accounts")
_HOMES = Variable("HOMES_DIR", Source.DIRECTORY, "homes")
_FRONT = Variable("FRONT_UID", Source.FRONT)

METRICS = Port("metrics", "METRICS_PORT", 9_464, CONTAINER_HTTP_PORT)

SERVICES: tuple[Service, ...] = (
    Service(
        name="redis",
        uid=7_796,
        command=("redis-server",),
        directories=(Directory("tls"),),
    ),
    Service(
        name="queue",
        uid=7_792,
        command=("python", "-m", "services.queue"),
        environment=(
            *_COMMON,
            Variable("SPOOL_DIR", Source.DIRECTORY, "spool"),
            Variable("REDIS_URL", Source.REDIS),
            Variable("SPOOL_UNSAFE_FS", Source.PASSED, "0"),
            Variable("SPOOL_CLUSTER", Source.PASSED, ""),
        ),
        directories=(*_COMMON_DIRECTORIES, Directory("spool", writable=True)),
        needs=("redis",),
    ),
    Service(
        name="local",
        uid=7_794,
        command=("python", "-m", "services.local"),
        environment=(
            *_COMMON,
            _QUEUES,
            _ACCOUNTS,
            Variable("ALIAS_DIR", Source.DIRECTORY, "alias"),
            Variable("USERS_DIR", Source.DIRECTORY, "users"),
            _HOMES,
            Variable("SUBMIT_DIR", Source.DIRECTORY, SUBMIT),
            Variable("ALIAS_UID", Source.FIXED, str(ALIAS_UID)),
            _FRONT,
        ),
        directories=(
            *_COMMON_DIRECTORIES,
            Directory("accounts"),
            Directory("alias", writable=True),
            Directory("users"),
            Directory("homes", writable=True),
            Directory(SUBMIT, writable=True),
        ),
        starts_as_root=True,
        needs=("queue",),
    ),
    Service(
        name="remote",
        uid=7_793,
        command=("python", "-m", "services.remote"),
        environment=(
            *_COMMON,
            _QUEUES,
            Variable("DNS_SERVERS", Source.PASSED, ""),
            Variable("REMOTE_SMTP_PORT", Source.PASSED, "25"),
            Variable("REMOTE_ALLOW_NETS", Source.PASSED, ""),
        ),
        directories=_COMMON_DIRECTORIES,
        needs=("queue",),
    ),
    Service(
        name="pop3",
        uid=7_795,
        command=("python", "-m", "services.pop3"),
        environment=(
            *_COMMON,
            Variable("POP3_BIND", Source.LISTEN, "pop3"),
            _ACCOUNTS,
            _HOMES,
            _FRONT,
            _LOCALS,
        ),
        ports=(Port("pop3", "POP3_PORT", 2_110, 2_110),),
        directories=(*_COMMON_DIRECTORIES, Directory("accounts"), Directory("homes", writable=True)),
        starts_as_root=True,
        needs=("local",),
    ),
    Service(
        name="smtpd",
        uid=7_791,
        command=("python", "-m", "services.smtpd"),
        environment=(*_COMMON, Variable("SMTP_BIND", Source.LISTEN, "smtp"), _QUEUES, _LOCALS),
        ports=(Port("smtp", "SMTP_PORT", 2_525, 2_525),),
        directories=_COMMON_DIRECTORIES,
        needs=("queue", "local"),
    ),
)

BY_NAME: Mapping[str, Service] = {service.name: service for service in SERVICES}

# The order in which `up` ends them: first no more mail comes in, then deliveries end, then the queue writes what became
# of them; Redis last.
STOP_GROUPS = (("smtpd",), ("pop3", "remote", "local"), ("queue",), ("redis",))

assert sorted(name for group in STOP_GROUPS for name in group) == sorted(BY_NAME), "every service must be stopped"


def uid_of_role(role: str) -> int:
    """Who owns a role's key files when root runs the stack."""
    return 0 if role == "cli" else BY_NAME[role].uid


def container_environment(service: Service) -> dict[str, str]:
    """What compose and Kubernetes must set for `service`, besides INSTANCE and the variables that they pass on.

    A PASSED variable is present with its default. FRONT_UID is the front's uid, because local and pop3 start as root
    in a container. A volume or an `/etc` of the host may stand for accounts and homes; the contract test allows it.
    """
    values: dict[str, str] = {}
    for variable in service.environment:
        match variable.source:
            case Source.INSTANCE:
                continue
            case Source.DIRECTORY:
                values[variable.name] = f"{CONTAINER_STATE}/{variable.of.format(service=service.name)}"
            case Source.RPC:
                values[variable.name] = f"0.0.0.0:{CONTAINER_RPC_PORT}"
            case Source.HTTP:
                values[variable.name] = f"0.0.0.0:{CONTAINER_HTTP_PORT}"
            case Source.LISTEN:
                port = next(port for port in service.ports if port.name == variable.of)
                values[variable.name] = f"0.0.0.0:{port.container}"
            case Source.PEERS:
                values[variable.name] = f"{variable.of}:{CONTAINER_RPC_PORT}"
            case Source.REDIS:
                values[variable.name] = "redis://redis:6379/0"
            case Source.PASSED | Source.FIXED:
                values[variable.name] = variable.of
            case Source.FRONT:
                values[variable.name] = str(service.uid)
    return values
