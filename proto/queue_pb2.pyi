from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnqueueBatch(_message.Message):
    __slots__ = ("submissions", "chunks")
    SUBMISSIONS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    submissions: _containers.RepeatedCompositeFieldContainer[Submission]
    chunks: _containers.RepeatedCompositeFieldContainer[BodyChunk]
    def __init__(self, submissions: _Optional[_Iterable[_Union[Submission, _Mapping]]] = ..., chunks: _Optional[_Iterable[_Union[BodyChunk, _Mapping]]] = ...) -> None: ...

class Submission(_message.Message):
    __slots__ = ("id", "log", "sender", "recipients", "body", "size", "uid", "envid")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ENVID_FIELD_NUMBER: _ClassVar[int]
    id: str
    log: str
    sender: str
    recipients: _containers.RepeatedScalarFieldContainer[str]
    body: bytes
    size: int
    uid: int
    envid: str
    def __init__(self, id: _Optional[str] = ..., log: _Optional[str] = ..., sender: _Optional[str] = ..., recipients: _Optional[_Iterable[str]] = ..., body: _Optional[bytes] = ..., size: _Optional[int] = ..., uid: _Optional[int] = ..., envid: _Optional[str] = ...) -> None: ...

class BodyChunk(_message.Message):
    __slots__ = ("id", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    data: bytes
    def __init__(self, id: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class EnqueueReply(_message.Message):
    __slots__ = ("accepting_log", "receipts")
    ACCEPTING_LOG_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    accepting_log: str
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, accepting_log: _Optional[str] = ..., receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("id", "status", "text")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Receipt.Status]
        COMMITTED: _ClassVar[Receipt.Status]
        REFUSED: _ClassVar[Receipt.Status]
    UNKNOWN: Receipt.Status
    COMMITTED: Receipt.Status
    REFUSED: Receipt.Status
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: Receipt.Status
    text: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[Receipt.Status, str]] = ..., text: _Optional[str] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("log", "id")
    LOG_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    log: str
    id: str
    def __init__(self, log: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class ResolveReply(_message.Message):
    __slots__ = ("answer",)
    class Answer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NOT_OWNER: _ClassVar[ResolveReply.Answer]
        COMMITTED: _ClassVar[ResolveReply.Answer]
        REFUSED: _ClassVar[ResolveReply.Answer]
    NOT_OWNER: ResolveReply.Answer
    COMMITTED: ResolveReply.Answer
    REFUSED: ResolveReply.Answer
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: ResolveReply.Answer
    def __init__(self, answer: _Optional[_Union[ResolveReply.Answer, str]] = ...) -> None: ...
