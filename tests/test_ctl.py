"""numberctl and numberload as a person uses them, against a running server."""
import json
import os
import pty
import subprocess
import threading

import servers
from client import Client

A, B, C = "+4915112345678", "+447700900123", "+12025550123"


def test_lookup_register_move():
    """Each verb's text and JSON, and the exit status that says whether it did what was asked."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        assert server.ctl("lookup", A) == f"{A}\tnot registered\n"
        assert server.ctl("register", A, "--account", 2**64 - 1, "--flags", 4) == f"{A}\tadded\n"
        assert server.ctl("register", A, "--account", 9, "--flags", 4) == f"{A}\treplaced\n"
        assert server.ctl("lookup", "--records", A, B) == f"{A}\tregistered\taccount 9\tflags 4\n{B}\tnot registered\n"
        lines = [json.loads(line) for line in server.ctl("lookup", "--records", "--json", A, B).splitlines()]
        assert lines == [{"number": A, "status": "registered", "account": "9", "flags": 4},
                         {"number": B, "status": "not registered"}]
        assert server.ctl("move", A, B) == f"{B}\tmoved\n"
        assert "absent" in server.ctl("move", A, C, status=65)
        assert json.loads(server.ctl("deregister", B, "--json")) == {"number": B, "result": "removed"}
        assert "absent" in server.ctl("deregister", B, status=65)
        many = "".join(f"+4479{i:08}\n" for i in range(3000))
        assert server.ctl("lookup", "-", text=many).count("not registered") == 3000
        mixed = server.ctl("lookup", "-", text=f"{A}\nnonsense\n\n{B}\n", status=65)
        assert mixed.count("not registered") == 2 and "line 2" in mixed
        assert "answered in" in server.ctl("ping") and json.loads(server.ctl("ping", "--json"))["milliseconds"] > 0
        printed = server.ctl("stats")
        sections = {part.split("\n")[0]: dict(line.split(":", 1) for line in part.strip().split("\n")[1:])
                    for part in printed.removeprefix("# ").split("\n# ")}
        assert sections["directory"]["registered"].isdigit() and sections["server"]["ready"] == "true", printed
        assert json.loads(server.ctl("stats", "--json"))["ready"] is True


def on_terminal(*arguments):
    """What numberctl prints when it has a terminal."""
    inside, outside = pty.openpty()
    process = subprocess.Popen([servers.BIN / "numberctl", *arguments], stdout=outside, stdin=subprocess.DEVNULL)
    os.close(outside)
    printed = b""
    while True:
        try:
            piece = os.read(inside, 65536)
        except OSError:  # the other end is closed
            break
        printed += piece
    os.close(inside)
    assert process.wait(servers.PATIENCE) == 0, printed
    return printed.decode()


def test_top():
    """A screen on a terminal, in red what is wrong; lines elsewhere; and it waits for a server that is succeeded."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data", "--redis", f"redis://127.0.0.1:{servers.free_port()}/0") as server:
        with Client(server.port) as client:
            client.register((4915112000000, 1, 0))
        screen = on_terminal("top", "--server", server.address, "--count", "2").split("\033[H\033[J")[-1]
        assert "registrations  1," in screen and "connections    1 open" in screen, screen
        assert "\033[1;31m! Redis is away: " in screen, screen
        assert screen.count("\033[1;31m") == 1, screen
        lines = server.ctl("top", "--count", "2").splitlines()
        assert len(lines) == 3 and lines[0].split()[0] == "lookups/s" and lines[1].split()[5] == "1", lines
        asked = threading.Thread(target=lambda: Client(server.port).lookup([4915112000000] * 1000))
        asked.start()
        found = [json.loads(line) for line in server.ctl("top", "--count", "2", "--json").splitlines()]
        asked.join()
        assert len(found) == 2 and all(one["ready"] for one in found), found
        assert "--interval" in server.ctl("top", "--interval", "0", status=64)
        assert "--count" in server.ctl("top", "--count", "many", status=64)


def test_import_and_export():
    """CSV in, from a file and from standard input; rejects with line and reason; the same CSV out, to a file or not."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        source = folder / "rows.csv"
        source.write_text(f"number,account,flags\r\n{A},1,0\r\n\"{B}\",2,255\nbad,3,0\n{C}\n+4915112345678,7\n+999123456,1,1\n")
        report = json.loads(server.ctl("import", "--json", source, status=65))
        assert {k: report[k] for k in ("rows", "added", "replaced", "rejected")} == \
            {"rows": 6, "added": 3, "replaced": 1, "rejected": 2}
        rejects = (folder / "rows.csv.rejects").read_text().splitlines()
        assert [line.split("\t")[0] for line in rejects] == ["line", "4", "7"]
        assert "letter" in rejects[1] and "country code" in rejects[2]
        rows = server.ctl("export", "--data-dir", server.data_dir)
        assert sorted(rows.splitlines()) == sorted(["number,account,flags", f"{A},7,0", f"{B},2,255", f"{C},0,0"])
        target = folder / "out.csv"
        server.ctl("export", "--data-dir", server.data_dir, "--output", target)
        assert target.read_text() == rows
        lines = [json.loads(x) for x in server.ctl("export", "--data-dir", server.data_dir, "--json").splitlines()]
        assert {"number": B, "account": "2", "flags": 255} in lines and len(lines) == 3
        with servers.Numberd(folder / "other") as other:
            assert "3 rows: 3 added" in other.ctl("import", "-", text=rows)
            assert sorted(other.ctl("export", "--data-dir", other.data_dir).splitlines()) == sorted(rows.splitlines())
            # Again: nothing changes.
            assert "3 rows: 0 added, 3 replaced" in other.ctl("import", "-", text=rows)


def test_export_sees_the_newest():
    """A running server is asked for a snapshot first; --last takes what is there; a stopped one needs none."""
    with servers.temporary_folder() as folder:
        with servers.Numberd(folder / "data") as server:
            server.ctl("register", A)
            assert server.ctl("export", "--data-dir", server.data_dir, "--last").count("\n") == 1
            assert server.ctl("export", "--data-dir", server.data_dir).count("\n") == 2
            dead = f"127.0.0.1:{servers.free_port()}"
            assert "--last" in servers.ctl("export", "--data-dir", server.data_dir, "--server", dead, status=69)
            server.ctl("register", B)
        assert servers.ctl("export", "--data-dir", folder / "data").count("\n") == 3


def test_disclosure():
    """The trace of lookups by number, by requester and by window, IPv4 and IPv6, from the data directory."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        server.ctl("register", A)
        server.ctl("lookup", A, B)
        server.ctl("lookup", "--requester", "42", "--ip", "2001:db8::7", A)
        server.ctl("lookup", "--requester", "43", "--ip", "203.0.113.9", B)
        servers.wait_until(lambda: server.stats()["query_log"]["stored"] == 4, "four events stored")

        def disclose(*selector):
            rows = servers.disclose(server.data_dir, *selector).splitlines()
            assert rows[0] == "time,partyNumber,answer,requester,ip,via,server,recordNumber"
            return sorted(row.split(",")[1:5] for row in rows[1:])

        assert disclose("--number", A) == [[A, "registered", "0", "127.0.0.1"], [A, "registered", "42", "2001:db8::7"]]
        assert disclose("--number", B) == [[B, "not registered", "0", "127.0.0.1"], [B, "not registered", "43", "203.0.113.9"]]
        assert disclose("--requester", 42) == [[A, "registered", "42", "2001:db8::7"]]
        assert disclose("--requester", 44) == []
        assert disclose("--ip", "203.0.113.9") == [[B, "not registered", "43", "203.0.113.9"]]
        assert disclose("--ip", "2001:db8::0007") == [[A, "registered", "42", "2001:db8::7"]]
        assert disclose("--ip", "2001:db8::8") == []
        past = ("--from", "2026-01-01T00:00:00Z", "--until", "2026-01-02")
        assert len(servers.disclose(server.data_dir, "--number", A, window=past).splitlines()) == 1
        record = json.loads(servers.disclose(server.data_dir, "--requester", 43, name="records.jsonl"))
        assert record["ip"] == "203.0.113.9" and record["partyNumber"] == B and record["time"].endswith("Z")
        about = json.loads(servers.disclose(server.data_dir, "--requester", 43, name="disclosure.json"))
        assert about["recordCount"] == 1 and about["gaps"] == [] and "any communication" in about["notice"]
        assert about["request"]["requestID"] == {"countryCode": None, "authorisedOrganisationID": "District Court",
                                                 "requestNumber": "2026-77"}


def test_privacy_switches():
    """The IP whole, its network alone, or not at all; with or without misses. The choice is each record's, over restarts."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for flags in ((), ("--log-ip", "network"), ("--log-ip", "none"), ("--log-misses", "no")):
            with servers.Numberd(data, *flags) as server:
                server.ctl("register", A)
                server.ctl("lookup", "--requester", "1", "--ip", "203.0.113.9", A, B)
                server.ctl("lookup", "--requester", "1", "--ip", "2001:db8:1:2::7", B)
                kept = server.stats()["query_log"]
                assert kept["looked_up"] == kept["stored"] + kept["in_flight"] + kept["lost"]
        rows = [row.split(",")[1:5] for row in servers.disclose(data, "--requester", 1).splitlines()[1:]]
        v4, v6 = "203.0.113.9", "2001:db8:1:2::7"
        hit, miss = [A, "registered", "1"], [B, "not registered", "1"]
        assert rows == [hit + [v4], miss + [v4], miss + [v6], hit + ["203.0.113.0/24"], miss + ["203.0.113.0/24"],
                        miss + ["2001:db8:1::/48"], hit + [""], miss + [""], miss + [""], hit + [v4]], rows
        assert servers.disclose(data, "--ip", v4).count(v4) == 3
        assert servers.disclose(data, "--ip", "203.0.113.0/24").count("/24") == 2
        assert servers.disclose(data, "--ip", "2001:db8:1::/48").count("/48") == 1
        for bad in ("203.0.113.9/24", "203.0.0.0/16", "2001:db8:1:2::/64", "0.0.0.0/0", "::/0", "203.0.113.0/", "*"):
            assert "no network as the log" in servers.disclose(data, "--ip", bad, status=65)


def entries_of(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def test_orders_and_ledger():
    """No record without an order; each attempt is in the ledger, and whatever is changed, removed or cut off there is seen."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        ledger = data / "disclosures.ledger"
        with servers.Numberd(data) as server:
            server.ctl("lookup", A)
        order = dict(zip(servers.ORDER[::2], servers.ORDER[1::2])) | {
            "--from": "2026-01-01", "--until": "2037-01-01", "--key": data / "officer.private", "--output": folder / "out",
            "--data-dir": data, "--number": A}
        for missing in ("--order", "--authority", "--basis", "--from", "--until", "--key", "--output", "--number"):
            words = [word for pair in order.items() if pair[0] != missing for word in pair]
            assert missing in servers.ctl("disclose", *words, status=64)
        words = [word for pair in order.items() for word in pair]
        assert "one of --number" in servers.ctl("disclose", *words, "--ip", "10.0.0.1", status=64)
        servers.ctl("officer-key", folder / "other")
        assert "another officer" in servers.ctl("disclose", *words, "--key", folder / "other.private", status=77)
        assert not (folder / "out").exists()
        refusals = entries_of(ledger)
        assert len(refusals) == 10 and all(entry["event"] == "refused" and entry["reason"] for entry in refusals), refusals
        summary = json.loads(servers.ctl("disclose", *words, "--json"))
        assert (summary["records"], summary["gaps"], summary["warnings"]) == (1, 0, 0)
        assert "there already" in servers.ctl("disclose", *words, status=73)
        opened, disclosed, again, failed = entries_of(ledger)[10:]
        assert [entry["event"] for entry in (opened, disclosed, again, failed)] == ["opened", "disclosed", "opened", "failed"]
        assert disclosed["recordCount"] == 1
        assert disclosed["hash"] == summary["ledger_head"] and opened["hash"] == disclosed["previous"]
        assert disclosed["request"]["selector"] == {"partyNumber": A}
        assert "127.0.0.1" not in ledger.read_text(), "a result in the ledger"

        head = json.loads(servers.ctl("ledger", ledger, "--json"))
        assert head == {"entries": 14, "head": failed["hash"]}
        servers.ctl("ledger", ledger, "--head", disclosed["hash"])
        assert "14 entries" in servers.ctl("check", data)
        whole = ledger.read_bytes()
        lines = whole.splitlines(keepends=True)
        for damaged in (whole.replace(b"2026-77", b"2026-78", 1), b"".join(lines[1:]), b"".join(lines[:3] + lines[4:]),
                        whole[:-10], whole + b"{}\n", b"".join(lines[:5] + lines[4:])):
            ledger.write_bytes(damaged)
            assert "not as it was written" in servers.ctl("ledger", ledger, status=65)
            assert "not as it was written" in servers.ctl("check", data, status=65)
            assert "not as it was written" in servers.ctl("disclose", *words, "--output", folder / "out2", status=65)
            assert not (folder / "out2").exists() and ledger.read_bytes() == damaged
        ledger.write_bytes(b"".join(lines[:12]))  # whole entries cut off: seen by the head beside it, or by who has a later one
        assert "entries are missing at the end (after 12)" in servers.ctl("ledger", ledger, status=65)
        assert "entries are missing" in servers.ctl("check", data, status=65)
        assert "entries are missing" in servers.ctl("disclose", *words, "--output", folder / "out2", status=65)
        (data / "disclosures.ledger.head").unlink()
        servers.ctl("ledger", ledger)
        assert "entries are missing" in servers.ctl("ledger", ledger, "--head", failed["hash"], status=65)

        assert "as the officer signed it" in servers.ctl("verify", folder / "out", "--key", data / "officer.verify")
        assert "not the one of this officer" in servers.ctl("verify", folder / "out", "--key", folder / "other.verify", status=65)
        for name in ("records.csv", "records.jsonl", "disclosure.json", "manifest.json", "manifest.sig"):
            path = folder / "out" / name
            text = path.read_bytes()
            path.write_bytes(text[:-2] + bytes([text[-2] ^ 1]) + text[-1:])
            servers.ctl("verify", folder / "out", "--key", data / "officer.verify", status=65)
            path.write_bytes(text)
        servers.ctl("verify", folder / "out", "--key", data / "officer.verify")


def test_two_persons():
    """A key in two shares opens the log with both, in either order, and with one of them not."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        servers.ctl("officer-key", folder / "pair", "--for-two")
        servers.ctl("officer-key", folder / "others", "--for-two")
        assert not (folder / "pair.private").exists()
        with servers.Numberd(data, "--officer-key", folder / "pair.public") as server:
            server.ctl("lookup", A)
        first, second = folder / "pair.share-1", folder / "pair.share-2"
        for one, other in ((first, second), (second, first)):
            assert servers.disclose(data, "--number", A, "--second-key", other, key=one).count(A) == 1
            assert "second-key" in servers.disclose(data, "--number", A, key=one, status=77)
        assert "another officer" in servers.disclose(data, "--number", A, "--second-key", folder / "others.share-2", key=first,
                                                     status=77)
        assert "share-2" in servers.disclose(data, "--number", A, "--second-key", first, key=first, status=65)


def test_sealed():
    """The data directory without the private key holds no number, address or requester; another's key opens nothing; a
    server is given the officer's public key alone."""
    with servers.temporary_folder() as folder:
        servers.ctl("officer-key", folder / "first")
        servers.ctl("officer-key", folder / "second")
        assert "first.private is there already" in servers.ctl("officer-key", folder / "first", status=73)
        assert (folder / "first.private").stat().st_mode & 0o777 == 0o600
        assert (folder / "first.public").stat().st_mode & 0o777 == (folder / "first.verify").stat().st_mode & 0o777 == 0o644
        data, requester = folder / "data", 0x1122334455667788
        with servers.Numberd(data, "--officer-key", folder / "first.public") as server:
            server.ctl("lookup", "--requester", requester, "--ip", "203.0.113.9", A, B)
            servers.wait_until(lambda: server.stats()["query_log"]["stored"] == 2, "two events stored")
            assert "officer.private" not in server.read_log()
        with servers.Numberd(data, "--officer-key", folder / "first.public") as server:  # another hour's key
            server.ctl("lookup", "--requester", requester, A)
        assert not list(data.glob("officer.*"))
        stored = b"".join(path.read_bytes() for path in (data / "querylog").iterdir())
        for secret in (int(A[1:]).to_bytes(6, "little"), int(B[1:]).to_bytes(6, "little"), bytes([203, 0, 113, 9]),
                       requester.to_bytes(8, "little"), A[1:].encode()):
            assert secret not in stored
        rows = servers.disclose(data, "--requester", requester, key=folder / "first.private")
        assert rows.count(A) == 2 and rows.count(B) == 1 and rows.count("203.0.113.9") == 2
        for key, status, reason in (("second.private", 77, "another officer's key"), ("first.public", 65, "private key"),
                                    ("none", 66, "No such file")):
            assert reason in servers.disclose(data, "--number", A, key=folder / key, status=status)
        # The keys may lie elsewhere; without them there is nothing.
        keys = folder / "keys"
        keys.mkdir()
        for path in (data / "querylog").glob("*.key"):
            path.rename(keys / path.name)
        def fields(text):
            return [line.split(",")[:6] for line in text.splitlines() if line.startswith("time,") or f",{A}," in line]
        assert fields(servers.disclose(data, "--number", A, "--keys", keys, key=folder / "first.private")) == fields(rows)
        without = servers.disclose(data, "--number", A, key=folder / "first.private", status=65)
        assert "2 frames of the window were not opened" in without and A not in without


def test_own_key_pair():
    """A first start makes a pair and says, as long as the private half lies there, to move it away."""
    with servers.temporary_folder() as folder:
        data = folder / "data"
        for exposed in (True, True, False):
            if not exposed:
                (data / "officer.private").rename(folder / "officer.private")
            with servers.Numberd(data) as server:
                server.ctl("lookup", A)
            assert (f"{data}/officer.private opens the query log: move it" in server.log) == exposed, server.log
        assert (data / "officer.public").exists()
        assert servers.disclose(data, "--number", A, key=folder / "officer.private").count(A) == 3


def test_progress_on_a_terminal():
    """On a terminal the import shows a line that it redraws; the report follows."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        source = folder / "rows.csv"
        source.write_text("".join(f"+4479{i:08},{i},0\n" for i in range(50000)))
        controller, terminal = pty.openpty()
        result = subprocess.run([servers.BIN / "numberctl", "import", "--server", server.address, source], stderr=terminal,
                                stdout=subprocess.PIPE, text=True, timeout=60, stdin=subprocess.DEVNULL)
        shown = os.read(controller, 65536).decode()
        os.close(controller)
        os.close(terminal)
        assert result.returncode == 0 and result.stdout.startswith("50000 rows: 50000 added"), result
        assert "\r" in shown and "rows/s" in shown, shown


def numberload(*arguments, status=0):
    result = subprocess.run([servers.BIN / "numberload", *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert result.returncode == status, (arguments, result)
    return result.stdout


def test_population():
    """200,000 generated registrations: imported, restarted, every one and every neighbour answered right."""
    with servers.temporary_folder() as folder:
        rows = folder / "rows.csv"
        rows.write_text(numberload("generate", "--count", 200000, "--seed", 5))
        assert rows.read_text() == numberload("generate", "--count", 200000, "--seed", 5)
        with servers.Numberd(folder / "data") as server:
            assert "200000 rows: 200000 added" in server.ctl("import", rows)
        with servers.Numberd(folder / "data") as server:
            found = json.loads(numberload("verify", "--server", server.address, "--count", 200000, "--seed", 5, "--json"))
            assert found == {"registered": 200000, "not_registered": 200000, "wrong": 0}
            # Another population is not there, and that is noticed.
            numberload("verify", "--server", server.address, "--count", 1000, "--seed", 6, status=65)


def test_load():
    """Closed and open loop: rates and percentiles that make sense, every answer checked, all of it in the log."""
    with servers.temporary_folder() as folder, servers.Numberd(folder / "data") as server:
        server.ctl("import", "-", text=numberload("generate", "--count", 20000))
        common = ("--server", server.address, "--count", 20000, "--json")
        closed = json.loads(numberload("run", *common, "--numbers", 200000, "--batch", 100, "--connections", 8,
                                       "--outstanding", 4, "--threads", 2))
        assert closed["numbers"] == 200000 and closed["requests"] == 2000
        assert closed["wrong"] == closed["broken"] == closed["unavailable"] == closed["limited"] == 0
        assert 90000 < closed["registered"] < 110000
        latency = closed["latency_ns"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.99"] <= latency["max"]
        opened = json.loads(numberload("run", *common, "--rate", 20000, "--batch", 10, "--seconds", 2, "--hit-ratio", 1))
        assert 36000 <= opened["numbers"] <= 40010 and opened["registered"] == opened["numbers"], opened
        servers.wait_until(lambda: server.stats()["query_log"]["in_flight"] == 0, "the log is written")
        log = server.stats()["query_log"]
        assert log["stored"] == log["looked_up"] == closed["numbers"] + opened["numbers"], log
        # Wrong answers are noticed: this population is not the one that is registered.
        numberload("run", "--server", server.address, "--count", 20000, "--seed", 2, "--seconds", 1, status=65)


if __name__ == "__main__":
    servers.run_tests(globals())
