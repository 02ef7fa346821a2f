"""server/example_client.py does what it says, and fails in one line."""
import pathlib
import socket
import subprocess
import sys

import servers

EXAMPLE = pathlib.Path(__file__).resolve().parent.parent / "server" / "example_client.py"


def run(*arguments, status=0):
    result = subprocess.run([sys.executable, EXAMPLE, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert result.returncode == status, (arguments, result)
    return result.stdout if status == 0 else result.stderr


def test_registers_and_looks_up():
    """With a token; and what the server knows afterwards, numberctl knows, too."""
    with servers.temporary_folder() as folder:
        tokens, shown = folder / "tokens", folder / "token"
        shown.write_text(servers.ctl("token", "add", tokens, "--principal", 1, "--roles", "lookup,register"))
        with servers.Numberd(folder / "data", "--token-file", tokens) as server:
            output = run("--server", server.address, "--token-file", shown, "--account", 7, "+447700900123")
            assert output == "+447700900123\tadded\n+447700900123\tregistered\n", output
            output = run("--server", server.address, "--token-file", shown, "+447700900123", "447700900999", "12")
            assert output == "+447700900123\tregistered\n+447700900999\tnot registered\n+12\tnot a number\n", output
            assert "registered" in servers.ctl("lookup", "--server", server.address, "--token-file", shown, "+447700900123")
            line = run("--server", server.address, "+447700900123", status=1)
            assert line.startswith("example_client: code 4 (unauthorized)") and line.count("\n") == 1, line


def test_no_server():
    """One line, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert run("--server", f"127.0.0.1:{port}", "+447700900123", status=1).count("\n") == 1


if __name__ == "__main__":
    servers.run_tests(globals())
