"""Power cuts: real processes of driver and server, ended by SIGKILL. After the last command the audit holds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.testing import FakeComfy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

HERE = Path(__file__).parent
QUICK = ["--timeout", "20"]


def arguments(mill: Any, url: str) -> list[str]:
    return ["run", str(mill.table), "-w", str(mill.workflow), "--server", url, "--out", str(mill.out), *QUICK]


class Server:
    """FakeComfy as a process of its own; a kill takes its memory and leaves its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "promptmill.driver.testing", "--port", str(self.port)]
        command += ["--output-dir", str(self._folder), "--seconds-per-job", "0.05"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(self._folder)}
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize(
    "point",
    [
        "before the POST",
        "after the POST",
        "after the fetch",
        "before the rename",
        "after the rename",
        "before the commit",
        "after the commit",
    ],
)
def test_the_driver_killed_at_any_line_goes_on(mill: Any, fake: FakeComfy, point: str, nth: int) -> None:
    """Faults 1 to 4."""
    command = [sys.executable, str(HERE / "die_at.py"), point, str(nth), *arguments(mill, fake.url)]
    killed = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL

    again = subprocess.run(
        [sys.executable, "-m", "promptmill", *arguments(mill, fake.url)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )

    assert again.returncode == 0, again.stderr
    mill.audit(6, fakes=(fake,))
    repeats = len(fake.posts) - 6
    assert repeats == 0, "what the server still knows is not sent again"


def test_an_image_already_in_its_place_is_adopted_when_the_server_forgot_it(
    mill: Any, fake: FakeComfy
) -> None:
    """Fault 3: killed between the rename and the commit, and the server restarts without its files."""
    mill.write(1)
    command = [sys.executable, str(HERE / "die_at.py"), "after the rename", "1", *arguments(mill, fake.url)]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    fake.restart(keep_files=False)

    assert mill.run(fake).exit_code == 0
    mill.audit(1, fakes=(fake,))
    assert len(fake.posts) == 1


def torment(mill: Any, folder: Path, seed: int) -> None:
    """Faults 1 to 4, 10 and 30 at random moments."""
    chance = random.Random(seed)
    mill.write(12)
    server = Server(folder)
    server.start()
    driver: subprocess.Popen[bytes] | None = None
    log = (folder / "driver.log").open("wb")
    try:
        for _ in range(chance.randint(2, 4)):
            if driver is None:
                command = [sys.executable, "-m", "promptmill", *arguments(mill, server.url)]
                driver = subprocess.Popen(command, stdout=log, stderr=log)
            time.sleep(chance.uniform(0.2, 1.5))
            victim = chance.choice(["driver", "server", "both"])
            if victim != "server":
                driver.kill()
                driver.wait()
                driver = None
            if victim != "driver":
                server.kill()
                time.sleep(chance.uniform(0.0, 0.4))
                server.start()
        if driver is not None:
            driver.kill()
            driver.wait()
        command = [sys.executable, "-m", "promptmill", *arguments(mill, server.url)]
        last = subprocess.run(command, capture_output=True, timeout=120, check=False, text=True)
        assert last.returncode == 0, f"seed {seed}: {last.stdout}{last.stderr}"
        mill.audit(12)
    except BaseException:
        print(f"seed {seed}")
        raise
    finally:
        log.close()
        if driver is not None and driver.poll() is None:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        server.kill()


@pytest.mark.parametrize("seed", range(20))
def test_random_kills_lose_and_double_nothing(mill: Any, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    torment(mill, folder, seed)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_random_kills_over_many_seeds(mill: Any, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    from shutil import rmtree

    for seed in range(1000, 1000 + pytestconfig.getoption("--soak-seeds")):
        folder = tmp_path / f"server{seed}"
        folder.mkdir()
        torment(mill, folder, seed)
        rmtree(mill.out)
        rmtree(folder)
