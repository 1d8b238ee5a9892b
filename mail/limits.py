"""Every size, count and time that bounds the mail itself, each with its reason."""

KIB = 1024
MIB = 1024 * KIB

# A path in MAIL or RCPT is at most 256 octets (RFC 5321 4.5.3.1.3); qmail took 900. Longer ones have only ever been
# attacks; the larger number keeps VERP senders with long recipients inside working.
ADDRESS_MAX_OCTETS = 900

# RFC 5321 4.5.3.1.8 asks for at least 100 recipients a message; ten times that bounds one envelope in memory.
RECIPIENTS_MAX = 1_000

# RFC 3461 4.4: an envelope id has at most 100 characters.
ENVID_MAX_OCTETS = 100

# RFC 3461 4.2: an original recipient has at most 500 characters, its type and its encoding included.
ORCPT_MAX_OCTETS = 500

# RFC 5321 4.5.3.1.4: 512 octets, more with extensions. 2 KiB carries every parameter we announce.
COMMAND_LINE_MAX_OCTETS = 2 * KIB

# What a message may weigh when control/databytes says nothing. qmail's 0 means no limit, which means the disk.
MESSAGE_MAX_OCTETS = 64 * MIB

# What the queue takes: the largest message with our own trace line on top, in which all foreign text is cut to 255.
SPOOLED_MAX_OCTETS = MESSAGE_MAX_OCTETS + 4 * KIB

# A line of text that never ends is cut off here; RFC 5321 4.5.3.1.6 asks for 1,000, real senders exceed it.
TEXT_LINE_MAX_OCTETS = 64 * KIB

# qmail-smtpd refuses at the hundredth Received or Delivered-To line.
HOPS_MAX = 100

# The header section alone; counts too, because parsers before ours died of counts (reliability.md, section 9).
HEADER_MAX_OCTETS = 256 * KIB
HEADER_FIELDS_MAX = 1_000

# A delivery report is cut here, as qmail-lspawn does (3000), before it reaches a log, a bounce or the spool.
REPORT_MAX_OCTETS = 3_000

# A bounce carries at most this much of the original message (Postfix's bounce_size_limit).
BOUNCE_BODY_MAX_OCTETS = 50_000

# gRPC refuses messages above 4 MiB; a body travels in pieces of this size, so one stream item stays small.
BODY_CHUNK_OCTETS = 256 * KIB

assert BODY_CHUNK_OCTETS * 8 <= 4 * MIB, "a batch with a body chunk and company must fit a gRPC message"
