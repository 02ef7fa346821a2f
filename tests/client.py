"""A client of numberd written from server/PROTOCOL.md, with the standard library alone."""
import ipaddress
import socket
import struct

HELLO, LOOKUP, LOOKUP_RECORDS, REGISTER, DEREGISTER, MOVE, PING, STATS, SNAPSHOT, GOODBYE, REPLACE_ALL, MAP = range(1, 13)
(OK, BAD_FRAME, HELLO_EXPECTED, VERSION_UNSUPPORTED, UNAUTHORIZED, UNKNOWN_TYPE, UNAVAILABLE, NOT_READY, READ_ONLY,
 GOING_AWAY, INTERNAL, FORBIDDEN, ELSEWHERE) = range(13)
NOT_REGISTERED, REGISTERED, INVALID, LIMITED = range(4)
ADDED, REPLACED, REMOVED, MOVED, ABSENT, OCCUPIED, REFUSED = range(0x10, 0x17)


def frame(kind, body=b"", count=0, request_id=1, flags=0):
    return struct.pack("<IBBHII", 16 + len(body), kind, flags, count, request_id, 0) + body


def hello(token=b"", lowest=1, highest=1, magic=b"NMBR"):
    return frame(HELLO, magic + struct.pack("<HHHH", lowest, highest, len(token), 0) + token)


def numbers(kind, values, request_id=1):
    return frame(kind, struct.pack(f"<{len(values)}Q", *values), len(values), request_id)


def lookup_for(requester, ip, values):
    """A lookup with an origin; the IP as text, IPv4 or IPv6."""
    address = ipaddress.ip_address(ip)
    packed = bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    body = struct.pack("<Q16s", requester, packed) + struct.pack(f"<{len(values)}Q", *values)
    return frame(LOOKUP, body, len(values), flags=1)


def registrations(entries, request_id=1):
    body = b"".join(struct.pack("<QQB7x", *entry) for entry in entries)
    return frame(REGISTER, body, len(entries), request_id)


def moves(pairs, request_id=1):
    return frame(MOVE, b"".join(struct.pack("<QQ", *pair) for pair in pairs), len(pairs), request_id)


class Reply:
    def __init__(self, header, body):
        (_, self.type, self.code, self.count, self.request_id, self.quota_left, self.retry_after_ms,
         self.cache_seconds) = struct.unpack("<IBBHIIII", header)
        self.header, self.body = header, body


class Client:
    def __init__(self, port, greet=True, token=b"", host="127.0.0.1", source=None, first=b"", tls=None, session=None):
        """`source`: the address to come from; `first`: bytes to send before all else; `tls`: an SSL context."""
        self.socket = socket.create_connection((host, port), 30, source and (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(first)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host, session=session)
        if greet:
            assert self.ask(hello(token)).code == OK

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive_bytes(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise EOFError(f"closed with {len(data)} of {length} bytes")
            data += piece
        return data

    def receive(self):
        header = self.receive_bytes(24)
        return Reply(header, self.receive_bytes(struct.unpack_from("<I", header)[0] - 24))

    def receive_all(self):
        """Whatever comes until the other side closes."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def ask(self, data):
        self.send(data)
        return self.receive()

    def is_closed(self):
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def lookup(self, values):
        reply = self.ask(numbers(LOOKUP, values))
        assert reply.code == OK and reply.count == len(values)
        return list(reply.body)

    def register(self, *entries):
        return list(self.ask(registrations(entries)).body)

    def records(self, values):
        """(account, flags) of each number, None for those not registered."""
        reply = self.ask(numbers(LOOKUP_RECORDS, values))
        assert reply.code == OK and reply.count == len(values)
        return [(account, flags) if status == REGISTERED else None
                for status, flags, account in struct.iter_unpack("<BB6xQ", reply.body)]
