"""The table of services, docker-compose.yml, the Dockerfile and k8s/ say the same.

Services, ports, uids, environment, volumes, networks: a change in one place fails here until all have it.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import topology
from cli.topology import SERVICES, Service, Source
from programs import place
from runtime import probe, serve

ROOT = Path(__file__).resolve().parents[2]
OURS = [service for service in SERVICES if service.name != "redis"]
NAMES = [service.name for service in OURS]

# Accounts and homes are the host's in compose, and homes are at /home in Kubernetes: users' files name that path.
ELSEWHERE_IN_COMPOSE = {"accounts": "/host/etc", "homes": "/home"}
ELSEWHERE_IN_KUBERNETES = {"homes": "/home"}
# Redis has users and passwords, and a network that only its callers share.
FENCED = {"redis", "queue", "smtpd", "pop3"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


each_service = pytest.mark.parametrize("service", OURS, ids=NAMES)


@cache
def compose() -> dict[str, Any]:
    """docker-compose.yml as an empty environment would read it."""
    text = _VARIABLE.sub(lambda found: found[2] or "", (ROOT / "docker-compose.yml").read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@cache
def manifests() -> dict[tuple[str, str], Any]:
    """What `kubectl apply -k k8s/` would send, by kind and name."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl, "kubectl is not in the virtual environment: run `make check`"
    made = subprocess.run([kubectl, "kustomize", "k8s"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(made.stdout)}


def workload(name: str) -> Any:
    kind = "StatefulSet" if name in ("queue", "redis") else "Deployment"
    return manifests()[kind, name]["spec"]


def pod(name: str) -> Any:
    return workload(name)["template"]["spec"]


def expected_environment(service: Service, elsewhere: dict[str, str]) -> dict[str, str]:
    values = topology.container_environment(service)
    for variable in service.environment:
        if variable.source is Source.DIRECTORY and variable.of in elsewhere:
            values[variable.name] = elsewhere[variable.of]
    return values


def mounts_wanted(service: Service, elsewhere: dict[str, str]) -> dict[str, bool]:
    """Path in the container and whether it is written, for each directory of the service."""
    state = topology.CONTAINER_STATE
    return {
        elsewhere.get(one.name, f"{state}/{one.name.format(service=service.name)}"): one.writable
        for one in service.directories
    }


def covering(path: str, mounts: dict[str, bool]) -> Iterator[bool]:
    """Whether it can be written, of each mount that the path lies in."""
    return (writable for place, writable in mounts.items() if path == place or path.startswith(f"{place}/"))


def compare_mounts(service: Service, elsewhere: dict[str, str], mounts: dict[str, bool]) -> None:
    wanted = mounts_wanted(service, elsewhere)
    for path, writable in wanted.items():
        assert writable in covering(path, mounts), f"{service.name} wants {path}, writable: {writable}; has {mounts}"
    superfluous = [place for place in mounts if not any(path.startswith(place) for path in wanted)]
    assert not superfluous, f"cli/topology.py does not give {service.name} {superfluous}"


def test_every_service_is_there() -> None:
    assert set(compose()["services"]) == {*NAMES, "redis", "init"}
    kinds = {name for kind, name in manifests() if kind in ("Deployment", "StatefulSet", "DaemonSet")}
    assert kinds == {*NAMES, "redis"}
    assert ("Job", "init") in manifests()


@each_service
def test_compose_sets_the_environment_of_the_table(service: Service) -> None:
    set_here = compose()["services"][service.name]["environment"]
    found = {name: "" if value is None else str(value) for name, value in set_here.items()}
    assert found == expected_environment(service, ELSEWHERE_IN_COMPOSE)


@each_service
def test_compose_passes_on_what_the_user_sets(service: Service) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for variable in service.environment:
        if variable.source is Source.PASSED:
            assert f"{variable.name}: ${{{variable.name}:-{variable.of}}}" in text


@each_service
def test_kubernetes_sets_the_environment_of_the_table(service: Service) -> None:
    environment = pod(service.name)["containers"][0]["env"]
    found = {one["name"]: one.get("value", "") for one in environment}
    assert found.pop("INSTANCE") == "", "INSTANCE is the pod's name, from the downward interface"
    wanted = expected_environment(service, ELSEWHERE_IN_KUBERNETES)
    wanted["LOG_FORMAT"] = "json"  # a cluster collects logs with machines
    assert found == wanted


@each_service
def test_both_mount_the_directories_of_the_table(service: Service) -> None:
    binds = (volume.split(":") for volume in compose()["services"][service.name]["volumes"])
    compare_mounts(service, ELSEWHERE_IN_COMPOSE, {bind[1]: bind[2:] != ["ro"] for bind in binds})
    mounts = pod(service.name)["containers"][0]["volumeMounts"]
    in_pod = {one["mountPath"]: not one.get("readOnly", False) for one in mounts if one["mountPath"] != "/tmp"}
    compare_mounts(service, ELSEWHERE_IN_KUBERNETES, in_pod)


@each_service
def test_both_open_the_ports_of_the_table(service: Service) -> None:
    published = [str(port) for port in compose()["services"][service.name].get("ports", [])]
    assert published == [f"127.0.0.1:{port.default}:{port.container}" for port in service.ports]
    opened = {(port["name"], port["containerPort"]) for port in pod(service.name)["containers"][0]["ports"]}
    to_the_world = {(port.name, port.container) for port in service.ports}
    assert opened == {("rpc", topology.CONTAINER_RPC_PORT), ("http", topology.CONTAINER_HTTP_PORT)} | to_the_world


@each_service
def test_everybody_is_who_the_table_says(service: Service) -> None:
    wanted = 0 if service.starts_as_root else service.uid
    stage = re.search(
        rf"^FROM room AS {service.name}\n(?:(?!FROM).*\n)*?USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.M
    )
    assert stage, f"the Dockerfile has no stage {service.name} with a USER"
    assert {int(stage[1]), int(stage[2])} == {wanted}
    assert pod(service.name)["securityContext"]["runAsUser"] == wanted
    assert pod(service.name)["securityContext"].get("runAsNonRoot", False) is not service.starts_as_root


@each_service
def test_nobody_has_more_privilege_than_named(service: Service) -> None:
    capabilities = ["SETUID", "SETGID"] if service.starts_as_root else None
    container = compose()["services"][service.name]
    assert container["read_only"]
    assert container["cap_drop"] == ["ALL"]
    assert container.get("cap_add") == capabilities
    assert container["init"] is not service.starts_as_root, "an init of uid 0 without CAP_KILL cannot end the front"
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["pids_limit"]
    assert container["mem_limit"]
    assert all("noexec" in mount for mount in container["tmpfs"])
    context = pod(service.name)["containers"][0]["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]} | ({"add": capabilities} if capabilities else {})


@each_service
def test_health_is_asked_and_a_drain_is_waited_for(service: Service) -> None:
    container = compose()["services"][service.name]
    assert container["healthcheck"]["test"] == ["CMD", "python", "-m", "runtime.probe", service.name]
    assert seconds(container["healthcheck"]["timeout"]) > probe.PROBE_TIMEOUT_S
    assert seconds(container["stop_grace_period"]) > serve.DRAIN_S
    assert pod(service.name)["terminationGracePeriodSeconds"] > serve.DRAIN_S
    http = pod(service.name)["containers"][0]
    assert http["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert http["livenessProbe"]["httpGet"]["path"] == "/healthz"


def seconds(text: str) -> float:
    assert text.endswith("s"), f"{text} is not in seconds"
    return float(text.removesuffix("s"))


def test_only_the_queue_opens_the_spool() -> None:
    services = compose()["services"]
    holders = {name for name, one in services.items() if any("/state/spool" in v for v in one.get("volumes", []))}
    assert holders == {"queue", "init"}
    claimants = {name for name in NAMES if any(mount["name"] == "spool" for mount in pod(name)["volumes"])}
    assert claimants == {"queue"}


def test_only_the_callers_of_redis_share_its_network() -> None:
    services = compose()["services"]
    assert {name for name, one in services.items() if "fence" in one.get("networks", [])} == FENCED
    assert services["redis"]["networks"] == ["fence"]
    assert compose()["networks"]["fence"]["internal"]


def callers(name: str, port: int) -> set[str]:
    """Who may call that port, says the network policy of the called."""
    return {
        caller
        for rule in manifests()["NetworkPolicy", name]["spec"].get("ingress", [])
        if {"protocol": "TCP", "port": port} in rule["ports"]
        for peer in rule.get("from", [])
        for caller in peer["podSelector"]["matchExpressions"][0]["values"]
    }


def called(name: str) -> set[str]:
    """Whom it may call, says the network policy of the caller."""
    found: set[str] = set()
    for rule in manifests()["NetworkPolicy", name]["spec"].get("egress", []):
        for peer in rule.get("to", []):
            selector = peer.get("podSelector", {})
            found.update(value for one in selector.get("matchExpressions", []) for value in one["values"])
            found.update(selector.get("matchLabels", {}).values())
    return found


def test_network_policies_are_the_arrows() -> None:
    """Each arrow is let out at its tail and in at its head; queue to queue is the operator's command in a queue pod."""
    arrows = {(one.name, other) for one in OURS for other in one.needs} | {("queue", "queue")}
    arrows |= {(name, "redis") for name in FENCED - {"redis"}}
    out = {(name, other) for name in NAMES for other in called(name)}
    rpc = topology.CONTAINER_RPC_PORT
    into = {(caller, name) for name in ("queue", "local") for caller in callers(name, rpc)}
    into |= {(caller, "redis") for caller in callers("redis", 6379)}
    assert out == arrows
    assert into == arrows


def test_redis_is_the_same_server_in_both() -> None:
    in_compose, container = compose()["services"]["redis"], pod("redis")["containers"][0]
    assert [str(word) for word in in_compose["command"]] == [str(word) for word in container["args"]]
    assert in_compose["image"] == container["image"]
    assert in_compose["user"] == "999:999"
    assert pod("redis")["securityContext"]["runAsUser"] == 999


def test_kubernetes_has_every_control_file_that_ships() -> None:
    """The ConfigMap cannot be written to, so init must find there what it would make."""
    (control,) = (one["data"] for (kind, name), one in manifests().items() if kind == "ConfigMap")
    for shipped in (ROOT / "control").iterdir():
        if shipped.name != "README.md":
            assert control.get(shipped.name) == shipped.read_text(), f"copy {shipped.name} to k8s/base/control"
    assert {"me", "locals", "rcpthosts", "defaultdomain", "plusdomain"} <= set(control)


def test_programs_on_the_host_look_where_compose_puts_the_sockets(tmp_path: Path, monkeypatch: Any) -> None:
    (bind,) = (one for one in compose()["services"]["local"]["volumes"] if one.endswith(f":/state/{topology.SUBMIT}"))
    monkeypatch.setattr(place, "CHECKOUT", str(tmp_path))
    for name in ("SEAPOST_SOCKET_DIR", "SEAPOST_STATE"):
        monkeypatch.delenv(name, raising=False)
    here = tmp_path / bind.split(":")[0]
    here.mkdir()
    assert str(here) in place.socket_directories()
    of_up = tmp_path / "var" / topology.SUBMIT
    of_up.mkdir(parents=True)
    assert next(place.socket_directories()) == str(of_up)


def test_init_is_told_the_same_in_both() -> None:
    in_compose = compose()["services"]["init"]["environment"]
    job = manifests()["Job", "init"]["spec"]["template"]["spec"]["containers"][0]
    in_job = {one["name"]: one["value"] for one in job["env"]}
    assert in_compose == {"MAIL_NAME": topology.EXAMPLE_NAME, **in_job}, "the Job's name is in its ConfigMap"
    assert in_job["OPERATOR_UID"] == str(topology.BY_NAME["queue"].uid)


def test_every_variable_of_compose_is_in_the_example() -> None:
    named = {found[1] for found in _VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    example = (ROOT / ".env.example").read_text()
    # For tests, and for those who read the services' READMEs.
    unsaid = {"TIME_SCALE", "SPOOL_UNSAFE_FS", "SPOOL_CLUSTER", "REDIS_IMAGE"}
    missing = {name for name in named - unsaid if not re.search(rf"^#?{name}=", example, re.M)}
    assert not missing, f".env.example does not mention {sorted(missing)}"
