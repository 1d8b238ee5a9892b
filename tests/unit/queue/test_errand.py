"""What is an errand, and what leads to nothing."""

from services.queue import errand, records
from services.queue.errand import errands_of
from services.queue.message import message_of
from services.queue.names import NOWHERE
from tests.harness.yard import accepted, an_id


def test_a_held_message_has_no_errands_and_one_that_waited_already_leads_to_nothing() -> None:
    message = message_of(accepted(1), NOWHERE)
    [waiting] = errands_of(message)
    message.held = records.Hold(an_id(1), held=True, by="ann", since_ms=7)
    assert errands_of(message) == []
    assert errand.begin("0a1b2c3d", message, waiting.ticket) is None
    message.held = None
    job = errand.begin("0a1b2c3d", message, waiting.ticket)
    assert job is not None
    assert job.recipients == (0,)
