"""aiocoap as the agent of a session that a real TPM opened with a real mote-verifier.

    aiocoap_session.py PATH/TO/mote-oscore-session

Prints one line per check and exits non-zero if one failed. Run by aiocoap.sh.
"""

import asyncio
import json
import os
import sys

import aiocoap
import aiocoap.error
from aiocoap import oscore

import aiocoap_oscore as shared
from aiocoap_oscore import check


class SessionContext(shared.MemoryContext):
    """Mote's context: master secret from the TPM, no salt, the verifier's Sender ID empty."""

    def __init__(self, session):
        self.sender_id = bytes.fromhex(session["kid"])
        self.recipient_id = b""
        self.id_context = None
        self.derive_keys(b"", bytes.fromhex(session["secret"]))
        self.sender_sequence_number = 0
        self.echo_recovery = os.urandom(8)
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()


async def main(program):
    peer = await asyncio.create_subprocess_exec(
        program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    session = json.loads(await peer.stdout.readline())
    uri = f"coap://127.0.0.1:{session['port']}"
    context = SessionContext(session)
    client = await aiocoap.Context.create_client_context(transports=["oscore", "simple6"])
    client.client_credentials[f"{uri}/*"] = context

    async def post(path, payload):
        message = aiocoap.Message(code=aiocoap.POST, uri=f"{uri}/{path}", payload=payload)
        return await client.request(message).response

    name = "aiocoap -> mote-verifier"
    garbage = await post("o", b"\xff")
    check(f"{name}: an open that is none is refused, protected", garbage.code, aiocoap.BAD_REQUEST)
    check(f"{name}: the refusal names its reason", b"message-malformed" in garbage.payload, True)
    check(f"{name}: an open with a true quote is taken",
          (await post("o", bytes.fromhex(session["open"]))).code, aiocoap.CHANGED)
    check(f"{name}: a beat that is none is refused, protected", (await post("b", b"\xff")).code, aiocoap.BAD_REQUEST)

    peer.stdin.write(b"restart\n")
    await peer.stdin.drain()
    check(f"{name}: the verifier restarts", await peer.stdout.readline(), b"restarted\n")
    for attempt in range(20):
        before = context.sender_sequence_number
        try:
            answer = await post("b", b"\xff")
            break
        except aiocoap.error.NetworkError:
            # ICMP says that it does not listen yet.
            await asyncio.sleep(0.5)
    check(f"{name}: after a restart the session goes on", answer.code, aiocoap.BAD_REQUEST)
    check(f"{name}: that took an Echo, and no new keys", context.sender_sequence_number - before, 2)

    await client.shutdown()
    peer.stdin.close()
    check(f"{name}: everything ends", await peer.wait(), 0)
    return shared.failures


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(asyncio.wait_for(main(sys.argv[1]), 240)) else 0)
