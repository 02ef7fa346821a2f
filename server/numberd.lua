-- Wireshark dissector for numberd's protocol (PROTOCOL.md): copy it into the plugins folder (Help, About, Folders), or
--   tshark -X lua_script:server/numberd.lua -f "tcp port 4164"
-- Frames are put together from the segments of TCP. Port 4164; others by "Decode As". tests/test_dissector.py holds the names against
-- PROTOCOL.md and replays its example.
local numberd = Proto("numberd", "numberd")

local types = {
    [0x01] = "HELLO", [0x02] = "LOOKUP", [0x03] = "LOOKUP_RECORDS", [0x04] = "REGISTER", [0x05] = "DEREGISTER", [0x06] = "MOVE",
    [0x07] = "PING", [0x08] = "STATS", [0x09] = "SNAPSHOT", [0x0A] = "GOODBYE", [0x0B] = "REPLACE_ALL", [0x0C] = "MAP",
}
local codes = {
    [0] = "OK", [1] = "BAD_FRAME", [2] = "HELLO_EXPECTED", [3] = "VERSION_UNSUPPORTED", [4] = "UNAUTHORIZED", [5] = "UNKNOWN_TYPE",
    [6] = "UNAVAILABLE", [7] = "NOT_READY", [8] = "READ_ONLY", [9] = "GOING_AWAY", [10] = "INTERNAL", [11] = "FORBIDDEN", [12] = "ELSEWHERE",
}
local statuses = {
    [0x00] = "NOT_REGISTERED", [0x01] = "REGISTERED", [0x02] = "INVALID", [0x03] = "LIMITED", [0x10] = "ADDED", [0x11] = "REPLACED",
    [0x12] = "REMOVED", [0x13] = "MOVED", [0x14] = "ABSENT", [0x15] = "OCCUPIED", [0x16] = "REFUSED",
}

local field = {
    size = ProtoField.uint32("numberd.frame_bytes", "Frame bytes"),
    type = ProtoField.uint8("numberd.type", "Type", base.HEX, types, 0x7f),
    reply = ProtoField.bool("numberd.reply", "Reply", 8, nil, 0x80),
    origin_flag = ProtoField.bool("numberd.flags.origin", "Origin", 8, nil, 0x01),
    code = ProtoField.uint8("numberd.code", "Code", base.DEC, codes),
    count = ProtoField.uint16("numberd.count", "Count"),
    id = ProtoField.uint32("numberd.request_id", "Request id"),
    quota = ProtoField.uint32("numberd.quota_left", "Quota left"),
    retry = ProtoField.uint32("numberd.retry_after_ms", "Retry after, ms"),
    cache = ProtoField.uint32("numberd.cache_seconds", "Cache, seconds"),
    requester = ProtoField.uint64("numberd.requester", "Requester"),
    ip = ProtoField.ipv6("numberd.origin_ip", "Origin's IP"),
    number = ProtoField.uint64("numberd.number", "Number"),
    account = ProtoField.uint64("numberd.account", "Account"),
    flags = ProtoField.uint8("numberd.record_flags", "Flags", base.HEX),
    status = ProtoField.uint8("numberd.status", "Status", base.HEX, statuses),
    version_min = ProtoField.uint16("numberd.version_min", "Lowest version"),
    version_max = ProtoField.uint16("numberd.version_max", "Highest version"),
    text = ProtoField.string("numberd.text", "Text"),
    body = ProtoField.bytes("numberd.body", "Body"),
}
numberd.fields = field

local REQUEST_BYTES, REPLY_BYTES = 16, 24
local FRAME_BYTES_MAX = 2 * 1024 * 1024

-- The entries of a request: what each is made of.
local function add_entries(body, tree, kind, count)
    local at = 0
    for _ = 1, count do
        if kind == 0x04 and body:len() >= at + 24 then
            tree:add_le(field.number, body(at, 8))
            tree:add_le(field.account, body(at + 8, 8))
            tree:add_le(field.flags, body(at + 16, 1))
            at = at + 24
        elseif kind == 0x06 and body:len() >= at + 16 then
            tree:add_le(field.number, body(at, 8)):append_text(" (old)")
            tree:add_le(field.number, body(at + 8, 8)):append_text(" (new)")
            at = at + 16
        elseif body:len() >= at + 8 then
            tree:add_le(field.number, body(at, 8))
            at = at + 8
        end
    end
end

local function dissect_request(buffer, tree, kind, count)
    local at = REQUEST_BYTES
    tree:add_le(field.origin_flag, buffer(5, 1))
    if kind == 0x01 and buffer:len() >= at + 12 then -- the token is left out: who looks at packets need not see it
        tree:add_le(field.version_min, buffer(at + 4, 2))
        tree:add_le(field.version_max, buffer(at + 6, 2))
        return
    end
    if buffer(5, 1):bitfield(7, 1) == 1 and buffer:len() >= at + 24 then
        tree:add_le(field.requester, buffer(at, 8))
        tree:add(field.ip, buffer(at + 8, 16))
        at = at + 24
    end
    if count > 0 and buffer:len() > at then
        add_entries(buffer(at):tvb(), tree, kind, count)
    end
end

local function dissect_reply(buffer, tree, kind, count)
    local code = buffer(5, 1):uint()
    tree:add_le(field.code, buffer(5, 1))
    if buffer:len() < REPLY_BYTES then return code end
    tree:add_le(field.quota, buffer(12, 4))
    tree:add_le(field.retry, buffer(16, 4))
    tree:add_le(field.cache, buffer(20, 4))
    if buffer:len() == REPLY_BYTES then return code end
    local body = buffer(REPLY_BYTES)
    if code ~= 0 or kind == 0x08 then
        tree:add(field.text, body)
    elseif kind == 0x03 then
        for i = 0, math.min(count, math.floor(body:len() / 16)) - 1 do
            tree:add_le(field.status, body(i * 16, 1))
            tree:add_le(field.flags, body(i * 16 + 1, 1))
            tree:add_le(field.account, body(i * 16 + 8, 8))
        end
    elseif kind == 0x02 or (kind >= 0x04 and kind <= 0x06) then
        for i = 0, math.min(count, body:len()) - 1 do tree:add_le(field.status, body(i, 1)) end
    else
        tree:add(field.body, body)
    end
    return code
end

local function dissect_frame(buffer, info, root)
    local tree = root:add(numberd, buffer())
    local kind, count = buffer(4, 1):bitfield(1, 7), buffer(6, 2):le_uint()
    local is_reply = buffer(4, 1):bitfield(0, 1) == 1
    tree:add_le(field.size, buffer(0, 4))
    tree:add(field.reply, buffer(4, 1))
    tree:add(field.type, buffer(4, 1))
    tree:add_le(field.count, buffer(6, 2))
    tree:add_le(field.id, buffer(8, 4))
    local name = types[kind] or string.format("type 0x%02x", kind)
    local summary
    if is_reply then
        local code = dissect_reply(buffer, tree, kind, count)
        summary = string.format("%s: %s", name, codes[code] or code)
    else
        dissect_request(buffer, tree, kind, count)
        summary = count > 0 and string.format("%s of %d", name, count) or name
    end
    tree:append_text(", " .. summary)
    info.cols.protocol = "numberd"
    info.cols.info:append(" [" .. summary .. "]")
    return buffer:len()
end

-- A length that no frame has is shown as it is, and what follows with it.
local function frame_length(buffer, _, offset)
    local length = buffer(offset, 4):le_uint()
    if length < REQUEST_BYTES or length > FRAME_BYTES_MAX then return buffer:len() - offset end
    return length
end

function numberd.dissector(buffer, info, root)
    dissect_tcp_pdus(buffer, root, REQUEST_BYTES, frame_length, dissect_frame)
    return buffer:len()
end

DissectorTable.get("tcp.port"):add(4164, numberd)
