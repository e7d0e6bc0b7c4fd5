"""How the SSH client is started: what is asked of it, and what is left as the user has configured it."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from tests.servers.sshd import SSHServer

from emdstore import SSHArtifactStore
from emdstore.stores.ssh import connection

# A client that says how it is configured, notes how it is called, and runs the command here.
SCRIPT = """#!/bin/sh
case " $* " in *" -G "*) cat {folder}/configured; exit;; esac
printf '%s\\n' "$@" > {folder}/called
for line; do :; done
exec sh -c "$line"
"""
DEFAULTS = (
    "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com"
)


def options_of(folder: Path, configured: str, *, asks: bool, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the ``-o`` options with which the client is called."""
    monkeypatch.setattr(connection, "_has_terminal", lambda: asks)
    client = folder / "ssh"
    client.write_text(SCRIPT.format(folder=folder))
    client.chmod(0o755)
    (folder / "configured").write_text(configured)
    with SSHArtifactStore(f"ssh://here{folder}/data", rsh=str(client), connect_timeout=7) as store:
        assert not store.exists("a")
    called = (folder / "called").read_text().splitlines()
    return dict(value.split("=", 1) for option, value in itertools.pairwise(called) if option == "-o")


@pytest.mark.parametrize("asks", [False, True])
def test_what_is_not_configured_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    configured = f"ciphers {DEFAULTS}\nconnecttimeout none\nserveraliveinterval 0\n"
    options = options_of(tmp_path, configured, asks=asks, monkeypatch=monkeypatch)
    assert options.pop("BatchMode", "no") == ("no" if asks else "yes"), "nothing hangs at a prompt that nobody sees"
    rest = [each for each in DEFAULTS.split(",") if each != "aes128-gcm@openssh.com"]
    assert options == {
        "ClearAllForwardings": "yes",
        "ConnectTimeout": "7",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "3",
        "Ciphers": ",".join(["aes128-gcm@openssh.com", *rest]),
    }


def test_what_is_configured_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = "ciphers aes256-gcm@openssh.com\nconnecttimeout 60\nserveraliveinterval 5\nremotecommand tmux\n"
    options = options_of(tmp_path, configured, asks=False, monkeypatch=monkeypatch)
    assert options == {"ClearAllForwardings": "yes", "BatchMode": "yes", "RemoteCommand": "none"}


def test_the_defaults_of_the_client_here_are_known(sshd: SSHServer) -> None:
    """Guards against a release of OpenSSH with other defaults, for which the fastest cipher would not be chosen."""
    said = subprocess.run(["ssh", "-G", "-F", "/dev/null", "host"], check=True, capture_output=True, text=True).stdout
    options = connection._options(("ssh", "-F", "/dev/null"), SSHArtifactStore(sshd.url("/")).address, False, 10)  # pyright: ignore[reportPrivateUsage]
    assert "ciphers " in said
    assert any(each.startswith("Ciphers=aes128-gcm@openssh.com,") for each in options)
