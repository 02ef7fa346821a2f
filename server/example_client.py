#!/usr/bin/python3
"""A client of numberd in Python's standard library alone: looks numbers up, and registers them when told to.

    example_client.py [--server HOST:PORT] [--token-file FILE] [--account ID] NUMBER...

Written from PROTOCOL.md, to be read and copied from. --account registers the numbers first. The status is 0 when all were answered."""
import argparse
import socket
import struct

HELLO, LOOKUP, REGISTER, GOODBYE = 1, 2, 4, 10
STATUSES = {0: "not registered", 1: "registered", 2: "not a number", 3: "limited", 0x10: "added", 0x11: "replaced"}
CODES = {1: "bad frame", 4: "unauthorized", 6: "unavailable", 7: "not ready", 8: "read only"}


class Refused(Exception):
    """The server has answered the request with a code other than OK."""


class Client:
    """One connection. Requests may be sent many at a time; replies come in their order."""

    def __init__(self, host, port, token=b"", timeout=5):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next_id = 1
        # The hello: a magic word, the versions that we speak, and the token.
        self.request(HELLO, 0, b"NMBR" + struct.pack("<HHHH", 1, 1, len(token), 0) + token)

    def request(self, kind, count, body):
        """Sends one request and returns the body of its reply."""
        self.socket.sendall(struct.pack("<IBBHII", 16 + len(body), kind, 0, count, self.next_id, 0) + body)
        size, reply_kind, code, _, request_id, quota_left, retry_ms, _ = struct.unpack("<IBBHIIII", self.read(24))
        body = self.read(size - 24)
        if request_id == 0:
            raise Refused(f"the server says goodbye, or has no place for us; try again in {retry_ms} ms")
        if reply_kind != kind | 0x80 or request_id != self.next_id:
            raise Refused("that is no reply to our request: is it numberd?")
        if code != 0:
            raise Refused(f"code {code} ({CODES.get(code, 'see PROTOCOL.md')}): {body.decode(errors='replace')}")
        self.next_id += 1
        self.quota_left, self.retry_ms = quota_left, retry_ms
        return body

    def read(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise Refused("the server has closed the connection")
            data += more
        return data

    def lookup(self, numbers):
        """One status for each of up to 65,535 numbers, which are integers: +44 7700 900123 is 447700900123."""
        return list(self.request(LOOKUP, len(numbers), struct.pack(f"<{len(numbers)}Q", *numbers)))

    def register(self, entries):
        """(number, account) pairs; when it returns, they are on the server's disk."""
        body = b"".join(struct.pack("<QQB7x", number, account, 0) for number, account in entries)
        return list(self.request(REGISTER, len(entries), body))

    def close(self):
        self.request(GOODBYE, 0, b"")
        self.socket.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:4164")
    parser.add_argument("--token-file", help="file whose first word is the token to show")
    parser.add_argument("--account", type=int, help="register the numbers for it first")
    parser.add_argument("numbers", nargs="+", metavar="NUMBER", type=lambda text: int(text.lstrip("+")))
    options = parser.parse_args()
    host, port = options.server.rsplit(":", 1)
    token = open(options.token_file, "rb").read().split()[0] if options.token_file else b""
    client = Client(host, int(port), token)
    if options.account is not None:
        for number, status in zip(options.numbers, client.register([(number, options.account) for number in options.numbers])):
            print(f"+{number}\t{STATUSES.get(status, status)}")
    for number, status in zip(options.numbers, client.lookup(options.numbers)):
        print(f"+{number}\t{STATUSES.get(status, f'unknown status {status}: no answer')}")
    client.close()


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as problem:
        raise SystemExit(f"example_client: {problem}") from None
