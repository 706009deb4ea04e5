"""OSCORE between Mote and aiocoap, in both directions.

    aiocoap_oscore.py PATH/TO/mote-oscore-peer

Prints one line per check and exits non-zero if one failed. Run by aiocoap.sh.
"""

import asyncio
import os
import socket
import sys

import aiocoap
import aiocoap.resource
from aiocoap import oscore
from aiocoap.credentials import CredentialsMap
from aiocoap.message import Direction
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper

SECRET = "0102030405060708090a0b0c0d0e0f10"
SALT = "9e7ca92223786340"
CLIENT_ID = "a1b2c3"
SERVER_ID = ""
ID_CONTEXT = "37cbf3210017a2d3"

failures = 0


def check(what, found, expected):
    global failures
    if found == expected:
        print(f"ok    {what}", flush=True)
    else:
        print(f"FAIL  {what}: found {found!r}, expected {expected!r}", flush=True)
        failures += 1


class MemoryContext(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):
    """aiocoap's security context without the files of its usual one."""

    alg_aead = oscore.algorithms["AES-CCM-16-64-128"]
    hashfun = oscore.hashfunctions["sha256"]

    def __init__(self, sender, recipient, id_context, window_lost):
        self.sender_id = bytes.fromhex(sender)
        self.recipient_id = bytes.fromhex(recipient)
        self.id_context = bytes.fromhex(id_context) if id_context else None
        self.derive_keys(bytes.fromhex(SALT), bytes.fromhex(SECRET))
        self.sender_sequence_number = 0
        self.echo_recovery = os.urandom(8)
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        if not window_lost:
            self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self):
        pass


def peer_arguments(id_context):
    return ["--id-context", id_context] if id_context else []


class RawClient:
    """Sends datagrams of our own making, so that they can be repeated and damaged."""

    def __init__(self, port, context):
        self.context = context
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.mid = int.from_bytes(os.urandom(2), "big")

    def protect(self, message):
        message.direction = Direction.OUTGOING
        outer, binding = self.context.protect(message)
        return outer, binding

    def encode(self, outer):
        self.mid = (self.mid + 1) % 0x10000
        outer.mid = self.mid
        outer.token = os.urandom(4)
        outer.mtype = aiocoap.CON
        return outer.encode()

    def exchange(self, datagram):
        self.socket.send(datagram)
        reply = self.socket.recv(2000)
        message = aiocoap.Message.decode(reply)
        message.direction = Direction.INCOMING
        return reply, message


async def aiocoap_client_checks(peer, id_context):
    name = "aiocoap -> mote" + (", ID context" if id_context else "")
    server = await asyncio.create_subprocess_exec(
        peer, "server", "--lost-window", *peer_arguments(id_context),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    port = int((await server.stdout.readline()).split()[1])
    context = MemoryContext(CLIENT_ID, SERVER_ID, id_context, False)
    raw = RawClient(port, context)

    def hello():
        return aiocoap.Message(code=aiocoap.GET, uri_path=["hello"])

    outer, binding = raw.protect(hello())
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: the challenge has a partial IV of its own", len(reply.opt.oscore), 2)
    inner, _ = context.unprotect(reply, binding)
    check(f"{name}: a server that lost its window challenges with Echo",
          (inner.code, len(inner.opt.echo or b"")), (aiocoap.UNAUTHORIZED, 8))

    client = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
    client.client_credentials[f"coap://127.0.0.1:{port}/*"] = context
    uri = f"coap://127.0.0.1:{port}"
    before = context.sender_sequence_number
    response = await client.request(aiocoap.Message(code=aiocoap.GET, uri=f"{uri}/hello")).response
    check(f"{name}: the echoed request is answered",
          (response.code, response.payload), (aiocoap.CONTENT, b"hello"))
    check(f"{name}: that took two requests", context.sender_sequence_number - before, 2)
    body = bytes(range(256)) * 3
    response = await client.request(
        aiocoap.Message(code=aiocoap.POST, uri=f"{uri}/echo", payload=body, content_format=42)
    ).response
    check(f"{name}: 768 bytes come back", (response.code, response.payload), (aiocoap.CHANGED, body))
    response = await client.request(aiocoap.Message(code=aiocoap.GET, uri=f"{uri}/none")).response
    check(f"{name}: an unknown path is 4.04", response.code, aiocoap.NOT_FOUND)
    await client.shutdown()

    outer, binding = raw.protect(hello())
    datagram = raw.encode(outer)
    first, reply = raw.exchange(datagram)
    inner, _ = context.unprotect(reply, binding)
    check(f"{name}: a response has a partial IV of its own",
          (inner.code, len(reply.opt.oscore)), (aiocoap.CONTENT, 2))
    again, _ = raw.exchange(datagram)
    check(f"{name}: a retransmission gets the same bytes", again, first)
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: a replay is refused",
          (reply.code, reply.payload), (aiocoap.UNAUTHORIZED, b"Replay detected"))

    outer, _ = raw.protect(hello())
    outer.payload = outer.payload[:-1] + bytes([outer.payload[-1] ^ 1])
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: a tampered message is refused",
          (reply.code, reply.payload), (aiocoap.BAD_REQUEST, b"Decryption failed"))
    outer, _ = raw.protect(hello())
    outer.payload = outer.payload[:-4]
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: a truncated tag is refused",
          (reply.code, reply.payload), (aiocoap.BAD_REQUEST, b"Decryption failed"))
    outer, _ = raw.protect(hello())
    outer.opt.oscore = outer.opt.oscore[:-1] + b"\xff"
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: another kid is refused",
          (reply.code, reply.payload), (aiocoap.UNAUTHORIZED, b"Security context not found"))
    outer, _ = raw.protect(hello())
    outer.opt.oscore = bytes([outer.opt.oscore[0] | 0x80]) + outer.opt.oscore[1:]
    _, reply = raw.exchange(raw.encode(outer))
    check(f"{name}: an option with reserved bits is refused", reply.code, aiocoap.BAD_OPTION)
    _, reply = raw.exchange(raw.encode(hello()))
    check(f"{name}: a request in the clear is refused", reply.code, aiocoap.UNAUTHORIZED)

    outer, binding = raw.protect(hello())
    _, reply = raw.exchange(raw.encode(outer))
    inner, _ = context.unprotect(reply, binding)
    check(f"{name}: the context has survived",
          (inner.code, inner.payload), (aiocoap.CONTENT, b"hello"))
    server.stdin.close()
    check(f"{name}: the peer ends well", await server.wait(), 0)

    # The other form of a response. The same context goes on, and this server's window is new.
    server = await asyncio.create_subprocess_exec(
        peer, "server", "--request-nonce", *peer_arguments(id_context),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    raw = RawClient(int((await server.stdout.readline()).split()[1]), context)
    outer, binding = raw.protect(hello())
    _, reply = raw.exchange(raw.encode(outer))
    inner, _ = context.unprotect(reply, binding)
    check(f"{name}: a response with the request's nonce is understood",
          (inner.code, reply.opt.oscore), (aiocoap.CONTENT, b""))
    server.stdin.close()
    check(f"{name}: the peer ends well again", await server.wait(), 0)


class Hello(aiocoap.resource.Resource):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"hello", content_format=0)


class Echo(aiocoap.resource.Resource):
    async def render_post(self, request):
        return aiocoap.Message(code=aiocoap.CHANGED, payload=request.payload)


async def aiocoap_server_checks(peer, id_context):
    name = "mote -> aiocoap" + (", ID context" if id_context else "")
    credentials = CredentialsMap()
    credentials[":mote"] = MemoryContext(SERVER_ID, CLIENT_ID, id_context, True)
    site = aiocoap.resource.Site()
    site.add_resource(["hello"], Hello())
    site.add_resource(["echo"], Echo())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await aiocoap.Context.create_server_context(
        OscoreSiteWrapper(site, credentials),
        bind=("127.0.0.1", port),
        transports=["oscore", "simplesocketserver"],
    )
    client = await asyncio.create_subprocess_exec(
        peer, "client", str(port), *peer_arguments(id_context)
    )
    check(f"{name}: all of the above", await client.wait(), 0)
    await server.shutdown()


async def main(peer):
    for id_context in (None, ID_CONTEXT):
        for direction in (aiocoap_client_checks, aiocoap_server_checks):
            await asyncio.wait_for(direction(peer, id_context), 120)
    return failures


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main(sys.argv[1])) else 0)
