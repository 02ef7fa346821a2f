"""The Wireshark dissector: its names are those of PROTOCOL.md, and tshark takes the document's conversation apart, however TCP has cut it."""
import json
import pathlib
import re
import struct
import subprocess

import servers
from test_protocol_examples import DOCUMENT, conversation

DISSECTOR = DOCUMENT.parent / "numberd.lua"


def packet(side, sequence, acknowledgement, data):
    """An Ethernet frame with IPv4 and TCP between port 50000 and 4164; tshark is not told to look at checksums."""
    ports = (50000, 4164) if side == "C" else (4164, 50000)
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledgement, 5 << 4, 0x18, 65535, 0, 0) + data
    hosts = (bytes([127, 0, 0, 1]), bytes([127, 0, 0, 2]))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + b"".join(hosts if side == "C" else hosts[::-1])
    return bytes(12) + b"\x08\x00" + ip + tcp


def capture(path, piece_bytes):
    """The conversation, in segments of that size."""
    sent = {"C": 1, "S": 1}
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for side, data in conversation():
            for start in range(0, len(data), piece_bytes):
                piece = data[start:start + piece_bytes]
                frame = packet(side, sent[side], sent["S" if side == "C" else "C"], piece)
                sent[side] += len(piece)
                file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def frames(path):
    """What the dissector makes of it: of each frame (request id, is a reply, type, code, numbers, statuses, accounts)."""
    result = subprocess.run(["tshark", "-r", path, "-X", f"lua_script:{DISSECTOR}", "-Y", "numberd", "-T", "json", "--no-duplicate-keys", "-J",
                             "numberd"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    found = []
    for one in json.loads(result.stdout):
        trees = one["_source"]["layers"]["numberd"]
        for tree in trees if isinstance(trees, list) else [trees]:
            def values(name, tree=tree):
                value = tree.get(f"numberd.{name}", [])
                return [int(word, 0) for word in (value if isinstance(value, list) else [value])]
            found.append({"id": values("request_id")[0], "reply": values("reply")[0], "type": values("type")[0], "code": values("code"),
                          "numbers": values("number"), "statuses": values("status"), "accounts": values("account"),
                          "requester": values("requester"), "cache": values("cache_seconds")})
    return found


def table(heading):
    """{value: name} of a table of the document."""
    section = re.search(rf"^## {heading}\n(.*?)^## ", DOCUMENT.read_text(), re.S | re.M)[1]
    return {int(value, 0): name for value, name in re.findall(r"^\| (0x[0-9A-F]+|\d+) \| ([A-Z_]+) \|", section, re.M)}


def test_names():
    """Types, codes and statuses are those of the document."""
    text = DISSECTOR.read_text()
    for heading in ("Types", "Codes", "Statuses"):
        block = re.search(rf"^local {heading.lower()} = {{(.*?)^}}", text, re.S | re.M)[1]
        names = {int(value, 0): name for value, name in re.findall(r'\[(0x[0-9A-F]+|\d+)\] = "([A-Z_]+)"', block)}
        assert names == table(heading) and len(names) > 10, heading


def test_conversation():
    """All frames are found and say what the document says."""
    with servers.temporary_folder() as folder:
        whole = None
        for piece_bytes in (10000, 20, 7):
            capture(folder / "capture.pcap", piece_bytes)
            found = frames(folder / "capture.pcap")
            whole = whole or found
            assert sorted(map(str, found)) == sorted(map(str, whole)), f"cut into pieces of {piece_bytes}"
        replies = {one["id"]: one for one in whole if one["reply"]}
        requests = {one["id"]: one for one in whole if not one["reply"]}
        assert len(replies) == len(requests) >= 9 and len(whole) == 2 * len(replies)
        assert requests[3]["numbers"] == [4915112345678, 447700900123, 447700900124, 12] and replies[3]["statuses"] == [1, 0, 0, 2]
        assert requests[2]["accounts"] == [7, 8] and replies[2]["statuses"] == [0x10, 0x10]
        assert requests[4]["requester"] == [42] and replies[4]["accounts"] == [7] and replies[4]["cache"] == [300]
        assert replies[5]["statuses"] == [0x13] and replies[8]["code"] == [5] and replies[7]["type"] == 7


if __name__ == "__main__":
    servers.run_tests(globals())
