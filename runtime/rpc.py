"""Calls between services: mutual TLS under our own CA, identity in the certificate, authorisation for each method.

Knows options, keys and who may call what; knows nothing of messages. Deadlines are given at each call, never in a
service configuration (which loses about a second of them).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from runtime.config import SERVER_NAME, Address, ConfigError

# Who may call a method; the name is the common name of the caller's certificate.
ALLOWED: dict[str, frozenset[str]] = {
    "/seapost.Queue/Enqueue": frozenset({"smtpd", "local"}),
    "/seapost.Queue/Resolve": frozenset({"smtpd", "local"}),
    "/seapost.Work/Pull": frozenset({"local", "remote"}),
    "/seapost.Accounts/Check": frozenset({"smtpd", "pop3"}),
    "/seapost.Admin/List": frozenset({"cli"}),
    "/seapost.Admin/Body": frozenset({"cli"}),
    "/seapost.Admin/Change": frozenset({"cli"}),
    "/seapost.Admin/Stats": frozenset({"cli"}),
}
_EVERYONE = frozenset({"smtpd", "queue", "local", "remote", "pop3", "cli"})
_HEALTH = "/grpc.health.v1.Health/"

_MESSAGE_MAX_OCTETS = 4 * 1024 * 1024
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.so_reuseport", 0),  # two servers on one port would share its calls in silence
    ("grpc.max_receive_message_length", _MESSAGE_MAX_OCTETS),
    ("grpc.max_send_message_length", _MESSAGE_MAX_OCTETS),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.enable_retries", 0),
)
_SERVER_OPTIONS = (*_OPTIONS, ("grpc.max_concurrent_streams", 256))
_CLIENT_OPTIONS = (
    *_OPTIONS,
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A service's key, its certificate and the CA that signs everybody's."""

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def load(cls, tls_dir: str, role: str) -> "Identity":
        """Reads TLS_DIR/ca.pem and TLS_DIR/<role>/{certificate,key}.pem; ConfigError names what is missing."""
        contents: list[bytes] = []
        mistakes: list[str] = []
        for name in ("ca.pem", f"{role}/certificate.pem", f"{role}/key.pem"):
            path = os.path.join(tls_dir, name)
            try:
                with open(path, "rb") as file:
                    contents.append(file.read())
            except OSError as error:
                fix = "make it with `bin/seapost certs`" if isinstance(error, FileNotFoundError) else "run as its owner"
                mistakes.append(f"{path}: {error.strerror}: {fix}, or let uid {os.geteuid()} read it")
        if mistakes:
            raise ConfigError(mistakes)
        return cls(*contents)


class _Authorise(grpc.aio.ServerInterceptor):
    """Refuses a call whose certificate is of a role that the method does not allow."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        allowed = _EVERYONE if method.startswith(_HEALTH) else ALLOWED.get(method, frozenset())
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream, allowed),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _guarded_stream(handler.unary_stream, allowed),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            _guarded(handler.unary_unary, allowed), handler.request_deserializer, handler.response_serializer
        )


async def _require(context: Any, allowed: frozenset[str]) -> None:
    if peer_role(context) not in allowed:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate's role may not call this method")


def _guarded(behaviour: Any, allowed: frozenset[str]) -> Any:
    async def call(request: Any, context: Any) -> Any:
        await _require(context, allowed)
        return await behaviour(request, context)

    return call


def _guarded_stream(behaviour: Any, allowed: frozenset[str]) -> Any:
    async def call(request: Any, context: Any) -> Any:
        await _require(context, allowed)
        async for reply in behaviour(request, context):
            yield reply

    return call


def peer_role(context: Any) -> str:
    """The role in the caller's certificate; "" without one."""
    names = context.auth_context().get("x509_common_name", ())
    return names[0].decode("utf-8", "replace") if names else ""


class Server:
    """A gRPC server with health, mutual TLS and authorisation. Register servicers on `grpc`, then `start`."""

    def __init__(self, identity: Identity, bind: Address) -> None:
        self.grpc = grpc.aio.server(interceptors=(_Authorise(),), options=_SERVER_OPTIONS)
        self._started = False
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate)], root_certificates=identity.ca, require_client_auth=True
        )
        try:
            port = self.grpc.add_secure_port(str(bind), credentials)
        except RuntimeError as error:
            raise ConfigError([f"environment variable RPC_BIND={bind}: cannot listen there: {error}"]) from error
        self.address = Address(bind.host, port)

    async def start(self) -> None:
        await self.grpc.start()
        self._started = True

    async def set_ready(self, ready: bool) -> None:
        """What gRPC health answers."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set("", status)

    async def stop(self, grace_s: float) -> None:
        if self._started:  # one that never was would not return
            await self.grpc.stop(grace_s)


def channel(address: Address, identity: Identity) -> grpc.aio.Channel:
    """A channel to one server of ours, whose address may be a name or a number."""
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    return grpc.aio.secure_channel(str(address), credentials, options=_CLIENT_OPTIONS)


async def is_healthy(address: Address, identity: Identity, timeout_s: float) -> bool:
    """Whether the server at `address` says SERVING within the time."""
    async with channel(address, identity) as to_server:
        stub = health_pb2_grpc.HealthStub(to_server)
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def ended(writer: "asyncio.Task[None]") -> None:
    """For the task that writes to a stream: a broken stream ends it in silence, for the task that reads tells."""
    if not writer.cancelled() and (error := writer.exception()) and not isinstance(error, grpc.aio.AioRpcError):
        raise error
