from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Accepted(_message.Message):
    __slots__ = ("id", "arrived_ms", "sender", "recipients", "uid", "envid", "parent", "size", "large")
    ID_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_MS_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ENVID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LARGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    arrived_ms: int
    sender: str
    recipients: _containers.RepeatedScalarFieldContainer[str]
    uid: int
    envid: str
    parent: str
    size: int
    large: str
    def __init__(self, id: _Optional[str] = ..., arrived_ms: _Optional[int] = ..., sender: _Optional[str] = ..., recipients: _Optional[_Iterable[str]] = ..., uid: _Optional[int] = ..., envid: _Optional[str] = ..., parent: _Optional[str] = ..., size: _Optional[int] = ..., large: _Optional[str] = ...) -> None: ...

class Settled(_message.Message):
    __slots__ = ("id", "recipient", "kind", "attempts", "next_attempt_ms", "report", "done")
    ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_MS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    id: str
    recipient: int
    kind: int
    attempts: int
    next_attempt_ms: int
    report: str
    done: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[str] = ..., recipient: _Optional[int] = ..., kind: _Optional[int] = ..., attempts: _Optional[int] = ..., next_attempt_ms: _Optional[int] = ..., report: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class Seal(_message.Message):
    __slots__ = ("segments",)
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    segments: _containers.RepeatedCompositeFieldContainer[SealedSegment]
    def __init__(self, segments: _Optional[_Iterable[_Union[SealedSegment, _Mapping]]] = ...) -> None: ...

class SealedSegment(_message.Message):
    __slots__ = ("name", "length")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    length: int
    def __init__(self, name: _Optional[str] = ..., length: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("message", "settled")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    message: Accepted
    settled: _containers.RepeatedCompositeFieldContainer[Settled]
    def __init__(self, message: _Optional[_Union[Accepted, _Mapping]] = ..., settled: _Optional[_Iterable[_Union[Settled, _Mapping]]] = ...) -> None: ...

class Remembered(_message.Message):
    __slots__ = ("finished", "refused")
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    finished: _containers.RepeatedScalarFieldContainer[str]
    refused: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, finished: _Optional[_Iterable[str]] = ..., refused: _Optional[_Iterable[str]] = ...) -> None: ...
