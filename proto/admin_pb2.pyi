from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[QueuedMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[QueuedMessage, _Mapping]]] = ...) -> None: ...

class QueuedMessage(_message.Message):
    __slots__ = ("id", "log", "sender", "size", "arrived_ms", "recipients")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_MS_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    log: str
    sender: str
    size: int
    arrived_ms: int
    recipients: _containers.RepeatedCompositeFieldContainer[QueuedRecipient]
    def __init__(self, id: _Optional[str] = ..., log: _Optional[str] = ..., sender: _Optional[str] = ..., size: _Optional[int] = ..., arrived_ms: _Optional[int] = ..., recipients: _Optional[_Iterable[_Union[QueuedRecipient, _Mapping]]] = ...) -> None: ...

class QueuedRecipient(_message.Message):
    __slots__ = ("address", "channel", "state", "attempts", "next_attempt_ms", "why")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_MS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    address: str
    channel: str
    state: str
    attempts: int
    next_attempt_ms: int
    why: str
    def __init__(self, address: _Optional[str] = ..., channel: _Optional[str] = ..., state: _Optional[str] = ..., attempts: _Optional[int] = ..., next_attempt_ms: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsReply(_message.Message):
    __slots__ = ("messages", "delivering", "logs", "workers")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DELIVERING_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    messages: int
    delivering: int
    logs: _containers.RepeatedScalarFieldContainer[str]
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, messages: _Optional[int] = ..., delivering: _Optional[int] = ..., logs: _Optional[_Iterable[str]] = ..., workers: _Optional[_Iterable[str]] = ...) -> None: ...
