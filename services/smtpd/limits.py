"""What one client, and all of them together, may cost smtpd. The limits of the mail itself are mail/limits.py."""

from mail.limits import COMMAND_LINE_MAX_OCTETS, KIB, MESSAGE_MAX_OCTETS, MIB, RECIPIENTS_MAX, TEXT_LINE_MAX_OCTETS

# control/concurrencyincoming and control/concurrencyperip say otherwise. A session costs a descriptor and, idle, about
# 10 KiB; one address with more than fifty is a broken or a hostile client.
CONNECTIONS_MAX = 1_000
CONNECTIONS_PER_IP_MAX = 50

# Descriptors that are not sessions: listening socket, RPC, events, control files.
DESCRIPTORS_RESERVED = 64

# control/timeoutsmtpd says otherwise. RFC 5321 4.5.3.2.7 asks for at least 300 s; this is qmail's.
TIMEOUT_S = 1_200

# A message must come at this rate once its first timeout is used up (Postfix smtpd_min_data_rate), octets a second.
DATA_RATE_MIN = 500

# A refused message is read to its true end, so that the reply meets its message; beyond this the client is cut off.
DATA_DISCARD_MAX_OCTETS = 1024 * MIB

# All bodies being received together; more is refused for now (452). Eight messages of the largest size.
BODIES_MAX_OCTETS = 8 * MESSAGE_MAX_OCTETS

# What is read from a socket at once. The reader stops the client at twice this.
PIECE_OCTETS = 64 * KIB

# Refusals (5xx) and idle commands (NOOP, RSET, VRFY, HELP, HELO) without a message accepted between them.
ERRORS_MAX = 20
JUNK_MAX = 100

# Temporary refusals: all the recipients that a client may name beyond the limit of one message, then it must go.
TEMPORARY_ERRORS_MAX = RECIPIENTS_MAX

# How long a client that we send away may take to read why; its words are thrown away meanwhile.
LINGER_S = 2.0

# Replies gathered for one write; a client that pipelines more gets them in several.
REPLIES_MAX = 200

# A verdict of the keeper of accounts is believed this long. "Nobody" shorter, because accounts are made while their
# owner waits; "unsure" only so long that the recipients of one message are not each asked at full length.
VERDICT_KEPT_S = 60.0
NOBODY_KEPT_S = 5.0
UNSURE_KEPT_S = 1.0
VERDICTS_MAX = 10_000
QUESTIONS_MAX = 100  # addresses in one call
CHECK_S = 5.0  # one call; a client may wait minutes for a reply to RCPT (RFC 5321 4.5.3.2.3)

# Control files are looked at, at most, this often.
CONTROLS_LOOK_S = 1.0

assert PIECE_OCTETS >= COMMAND_LINE_MAX_OCTETS, "a command line must fit what is read at once"
assert PIECE_OCTETS <= 2 * TEXT_LINE_MAX_OCTETS, "an endless line is noticed before much of it is held"
