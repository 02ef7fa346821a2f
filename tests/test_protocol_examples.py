"""Replays the conversation in server/PROTOCOL.md against a real server, byte by byte."""
import pathlib
import re
import socket

import servers

DOCUMENT = pathlib.Path(__file__).parent.parent / "server" / "PROTOCOL.md"


def conversation():
    """The (side, bytes) lines of the document's hex block."""
    block = re.search(r"```hex\n(.*?)```", DOCUMENT.read_text(), re.S).group(1)
    for line in block.splitlines():
        if line and not line.startswith("#"):
            side, _, data = line.partition(" ")
            yield side, bytes.fromhex(data)


def receive(connection, length):
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        assert piece, "the server closed early"
        data += piece
    return data


def replay(connection, lines, piece_bytes):
    """Sends the client's bytes in pieces of the given size and compares the server's."""
    for side, data in lines:
        if side == "C":
            for start in range(0, len(data), piece_bytes):
                connection.sendall(data[start:start + piece_bytes])
        else:
            got = receive(connection, len(data))
            assert got == data, f"got {got.hex()}, the document says {data.hex()}"
    assert connection.recv(1) == b"", "the server closes after GOODBYE"


def test_examples():
    """The document's bytes, sent whole, byte by byte and in odd pieces, get the document's answers."""
    lines = list(conversation())
    assert len(lines) > 15
    for piece_bytes in (100000, 1, 7):
        with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
            with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                replay(connection, lines, piece_bytes)


if __name__ == "__main__":
    servers.run_tests(globals())
