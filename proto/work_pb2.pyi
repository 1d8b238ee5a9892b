from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerMessage(_message.Message):
    __slots__ = ("hello", "slots", "outcomes")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    hello: WorkerHello
    slots: int
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, hello: _Optional[_Union[WorkerHello, _Mapping]] = ..., slots: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class WorkerHello(_message.Message):
    __slots__ = ("channel", "worker", "holding")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    HOLDING_FIELD_NUMBER: _ClassVar[int]
    channel: str
    worker: str
    holding: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channel: _Optional[str] = ..., worker: _Optional[str] = ..., holding: _Optional[_Iterable[str]] = ...) -> None: ...

class QueueMessage(_message.Message):
    __slots__ = ("hello", "deliveries", "chunks", "acks")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    hello: QueueHello
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    chunks: _containers.RepeatedCompositeFieldContainer[DeliveryChunk]
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    def __init__(self, hello: _Optional[_Union[QueueHello, _Mapping]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[DeliveryChunk, _Mapping]]] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ...) -> None: ...

class QueueHello(_message.Message):
    __slots__ = ("replica", "logs", "cluster")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    replica: str
    logs: _containers.RepeatedScalarFieldContainer[str]
    cluster: str
    def __init__(self, replica: _Optional[str] = ..., logs: _Optional[_Iterable[str]] = ..., cluster: _Optional[str] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("key", "log", "id", "sender", "recipients", "arrived_ms", "body", "size", "number")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_MS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    key: str
    log: str
    id: str
    sender: str
    recipients: _containers.RepeatedCompositeFieldContainer[Recipient]
    arrived_ms: int
    body: bytes
    size: int
    number: int
    def __init__(self, key: _Optional[str] = ..., log: _Optional[str] = ..., id: _Optional[str] = ..., sender: _Optional[str] = ..., recipients: _Optional[_Iterable[_Union[Recipient, _Mapping]]] = ..., arrived_ms: _Optional[int] = ..., body: _Optional[bytes] = ..., size: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Recipient(_message.Message):
    __slots__ = ("index", "address", "done")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    index: int
    address: str
    done: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, index: _Optional[int] = ..., address: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ...) -> None: ...

class DeliveryChunk(_message.Message):
    __slots__ = ("key", "data")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    key: str
    data: bytes
    def __init__(self, key: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("key", "id", "recipient", "kind", "report", "done", "forwards", "possible_duplicate")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEFERRED: _ClassVar[Outcome.Kind]
        DELIVERED: _ClassVar[Outcome.Kind]
        FAILED: _ClassVar[Outcome.Kind]
    DEFERRED: Outcome.Kind
    DELIVERED: Outcome.Kind
    FAILED: Outcome.Kind
    KEY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    POSSIBLE_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    key: str
    id: str
    recipient: int
    kind: Outcome.Kind
    report: str
    done: _containers.RepeatedScalarFieldContainer[int]
    forwards: _containers.RepeatedCompositeFieldContainer[Forward]
    possible_duplicate: bool
    def __init__(self, key: _Optional[str] = ..., id: _Optional[str] = ..., recipient: _Optional[int] = ..., kind: _Optional[_Union[Outcome.Kind, str]] = ..., report: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ..., forwards: _Optional[_Iterable[_Union[Forward, _Mapping]]] = ..., possible_duplicate: _Optional[bool] = ...) -> None: ...

class Forward(_message.Message):
    __slots__ = ("sender", "recipients", "header", "instruction")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    sender: str
    recipients: _containers.RepeatedScalarFieldContainer[str]
    header: str
    instruction: int
    def __init__(self, sender: _Optional[str] = ..., recipients: _Optional[_Iterable[str]] = ..., header: _Optional[str] = ..., instruction: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("key", "recipient", "not_owner")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    NOT_OWNER_FIELD_NUMBER: _ClassVar[int]
    key: str
    recipient: int
    not_owner: bool
    def __init__(self, key: _Optional[str] = ..., recipient: _Optional[int] = ..., not_owner: _Optional[bool] = ...) -> None: ...
