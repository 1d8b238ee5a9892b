from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckRequest(_message.Message):
    __slots__ = ("recipients",)
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    recipients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, recipients: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckReply(_message.Message):
    __slots__ = ("verdicts",)
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSURE: _ClassVar[CheckReply.Verdict]
        DELIVERABLE: _ClassVar[CheckReply.Verdict]
        NOBODY: _ClassVar[CheckReply.Verdict]
        ELSEWHERE: _ClassVar[CheckReply.Verdict]
    UNSURE: CheckReply.Verdict
    DELIVERABLE: CheckReply.Verdict
    NOBODY: CheckReply.Verdict
    ELSEWHERE: CheckReply.Verdict
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedScalarFieldContainer[CheckReply.Verdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[CheckReply.Verdict, str]]] = ...) -> None: ...
