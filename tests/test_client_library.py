"""The client library as it is installed: header, library, pkg-config; a program of somebody else's, built with these and nothing else."""
import os
import pathlib
import subprocess
import time

import servers

HERE = pathlib.Path(__file__).resolve().parent
BUILD = servers.BIN.parent


def run(*command, **environment):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout


def check_patience(folder, port):
    """The program waits for a server that is not there yet, and goes on with the next one when it has gone; without patience it ends."""
    listen = ("--listen", f"127.0.0.1:{port}")
    with subprocess.Popen([folder / "program", f"127.0.0.1:{port}", "patient"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        time.sleep(0.3)
        for _ in range(3):
            with servers.Numberd(folder / "data", *listen):
                assert program.stdout.readline() == "registered, not registered\n"
            program.stdin.write("\n")
            program.stdin.flush()
        with servers.Numberd(folder / "data", *listen) as server:
            assert program.stdout.readline() == "registered, not registered\n"
            server.kill()
        with servers.Numberd(folder / "data", *listen):
            out, _ = program.communicate("\n", timeout=60)
            assert (program.returncode, out) == (0, "registered, not registered\n")


def test_program():
    """It builds without a warning, and asks a server."""
    with servers.temporary_folder() as folder:
        run("cmake", "--install", BUILD, "--component", "client", "--prefix", folder / "installed")
        flags = run("pkg-config", "--cflags", "--libs", "numberd-client", PKG_CONFIG_PATH=str(folder / "installed/lib/pkgconfig")).split()
        assert not any(str(HERE.parent) in flag for flag in flags), flags
        run("gcc", "-std=c17", "-Wall", "-Wextra", "-Werror", HERE / "client_library.c", *flags, "-o", folder / "program")
        with servers.Numberd(folder / "data") as server:
            assert run(folder / "program", server.address) == "registered, not registered\n"
            port = server.port
        check_patience(folder, port)
        failed = subprocess.run([folder / "program", server.address], capture_output=True, text=True, timeout=60)
        assert failed.returncode == 1 and "cannot connect" in failed.stderr, failed


if __name__ == "__main__":
    servers.run_tests(globals())
