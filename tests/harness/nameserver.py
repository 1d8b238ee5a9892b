"""A name server on loopback, over UDP and TCP, that answers what a test tells it to."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class Nameserver:
    """`records`: (name, type) to texts; a name without any record does not exist. `rcodes` and `silent` by name."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    rcodes: dict[str, dns.rcode.Rcode] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    udp_max: int = 1_232
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0

    async def start(self, ip: str = "127.0.0.1") -> "Nameserver":
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve_tcp, ip, 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(ip, self.port))
        return self

    async def stop(self) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def answer(self, query: bytes, how: str) -> bytes | None:
        asked = dns.message.from_wire(query)
        question = asked.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, how))
        if name in self.silent:
            return None
        reply = dns.message.make_response(asked, recursion_available=True)
        reply.set_rcode(self.rcodes.get(name, dns.rcode.NOERROR))
        if name not in self.rcodes:
            self._fill(reply, name, kind)
        octets = reply.to_wire(max_size=65_535)
        if how == "udp" and len(octets) > self.udp_max:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            octets = reply.to_wire()
        return octets

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(8):
            alias = self.records.get((name, "CNAME"))
            if not alias:
                break
            reply.answer.append(dns.rrset.from_text_list(name + ".", 60, "IN", "CNAME", alias))
            name = alias[0].rstrip(".")
        texts = self.records.get((name, kind), [])
        if texts:
            reply.answer.append(dns.rrset.from_text_list(name + ".", 60, "IN", kind, texts))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = self.answer(await reader.readexactly(length), "tcp")
        if answer:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def __init__(self, server: Nameserver) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # the loop's own class is not one by name

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.server.answer(data, "udp")
        if answer:
            self.transport.sendto(answer, addr)
