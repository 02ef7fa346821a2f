"""How many query events a Redis has: in all frames of all streams, counted by Redis itself, frame headers read by hand
(persist/QUERYLOG.md). For whoever wants to know it by another way than the program's."""

_SCRIPT = """local n = 0
    for _, key in ipairs(redis.call('KEYS', 'querylog:{*')) do
        for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
            n = n + struct.unpack('<I4', string.sub(entry[2][2], 29, 32))
        end
    end
    return n"""


def events_in(redis):
    """`redis` has a method command(*arguments) that gives the lines of the answer."""
    return int(redis.command("EVAL", _SCRIPT, 0)[0])
