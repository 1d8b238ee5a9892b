"""What became of a remote delivery, in qmail-remote's words (qmail-remote(8)), and which outcome the words belong to.

Pure. The words are read by people and by programs that sort logs; only texts for things that qmail did not do are ours.
"""

from mail.outcome import Deferred, Delivered, Failed, Outcome
from services.remote.protocol import Stage, Verdict
from services.remote.reply import Reply

_MESSAGE_STAGES = {
    Stage.MAIL: ("Connected to ", " but sender was rejected"),
    Stage.DATA: ("", " failed on DATA command"),
    Stage.DOT: ("", " failed after I sent the message"),
}


# -- no connection ----------------------------------------------------------------------------------------------------


def no_such_host(domain: str) -> Failed:
    return Failed(f"Sorry, I couldn't find any host named {domain}. (#5.1.2)\n")


def no_exchanger() -> Failed:
    return Failed("Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n")


def takes_no_mail() -> Failed:
    """RFC 7505 section 4.1."""
    return Failed("Sorry, that domain says that it takes no mail. (#5.1.10)\n")


def ambiguous_exchanger() -> Failed:
    return Failed(
        "Sorry. Although I'm listed as a best-preference MX or A for that host,\n"
        "it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
    )


def forbidden_address() -> Failed:
    return Failed("Sorry, that host's mail exchangers are at private addresses, where I don't send mail. (#5.4.4)\n")


def dns_failed() -> Deferred:
    return Deferred("Sorry, I couldn't find any host by that name. (#4.1.2)\n")


def no_connection() -> Deferred:
    return Deferred("Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n")


def bad_address() -> Failed:
    return Failed("Sorry, this message has an address that SMTP cannot carry. (#5.1.3)\n")


def queue_is_gone() -> Deferred:
    """The queue may have given the delivery to another worker: nothing was sent."""
    return Deferred("I stopped before the message was sent: the queue is out of reach. (#4.3.0)\n")


def crashed() -> Deferred:
    return Deferred("qmail-remote crashed.\n")


# -- a connection -----------------------------------------------------------------------------------------------------


def died(ip: str) -> Deferred:
    return Deferred(f"Connected to {ip} but connection died. (#4.4.2)\n")


def died_after_dot(ip: str) -> Deferred:
    return Deferred(f"Connected to {ip} but connection died. Possible duplicate! (#4.4.2)\n")


def refused(ip: str, stage: Stage, reply: Reply) -> Deferred:
    """The server did not want to talk to us; another one, or another day, may."""
    what = "greeting failed" if stage is Stage.GREETING else "my name was rejected"
    return Deferred(f"Connected to {ip} but {what}.\n{_said(reply)}")


def needs_smtputf8(ip: str) -> Failed:
    """RFC 6531 3.2: the address cannot be written to a server without the extension."""
    return Failed(f"{ip} does not take addresses outside ASCII. (#5.6.7)\n")


def outcomes(ip: str, verdicts: tuple[Verdict | None, ...], otherwise: Deferred) -> list[Outcome]:
    """An outcome for each recipient; `otherwise` for those over whom nothing was decided."""
    nobody_accepted = all(verdict is not None and verdict.stage is Stage.RCPT for verdict in verdicts)
    about_message: Outcome | None = otherwise if None in verdicts else None
    for verdict in verdicts:
        if verdict and verdict.stage is not Stage.RCPT:
            about_message = _about_message(ip, verdict)
    if nobody_accepted:
        about_message = Failed(f"Giving up on {ip}.\n")
    return [_outcome(ip, verdict, about_message or otherwise) for verdict in verdicts]


def _outcome(ip: str, verdict: Verdict | None, about_message: Outcome) -> Outcome:
    if verdict is None or verdict.stage is not Stage.RCPT:
        return about_message
    text = f"{ip} does not like recipient.\n{_said(verdict.reply)}"
    if verdict.is_temporary:  # qmail-rspawn: the message's text follows unless it is better news than the recipient's
        follows = not isinstance(about_message, Delivered)
        return Deferred(text + about_message.report if follows else text)
    follows = isinstance(about_message, Failed)
    return Failed(text + about_message.report if follows else text)


def _about_message(ip: str, verdict: Verdict) -> Outcome:
    if verdict.reply.accepts:
        return Delivered(f"{ip} accepted message.\n{_said(verdict.reply)}")
    before, after = _MESSAGE_STAGES[verdict.stage]
    text = f"{before}{ip}{after}.\n{_said(verdict.reply)}"
    return Deferred(text) if verdict.is_temporary else Failed(text)


def _said(reply: Reply) -> str:
    return f"Remote host said: {reply.text}"
