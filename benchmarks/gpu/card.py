"""The graphics card: how much of it is left, and its clock and power while something runs."""

from __future__ import annotations

import subprocess
import threading
import time
from statistics import median

import torch
from comfy import model_management

ON_CARD = torch.cuda.is_available()
QUERY = "--query-gpu=clocks.sm,power.draw,clocks_event_reasons.active"


class Card:
    def __init__(self) -> None:
        self._taken = torch.empty(0)
        self._seen: list[tuple[float, float, float, str]] = []
        if ON_CARD:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        command = ["nvidia-smi", QUERY, "--format=csv,noheader,nounits", "-lms", "200"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                clock, power, reasons = line.split(", ")
                self._seen.append((time.perf_counter(), float(clock), float(power), reasons.strip()))

    def state_since(self, began: float) -> str:
        """Median clock and power since then, and each reason (NVML's bits) for which the clock was not higher."""
        seen = [found for found in self._seen if found[0] > began + 0.3]
        if not seen:
            return ""
        clock, power = median(found[1] for found in seen), median(found[2] for found in seen)
        reasons = {f"{int(found[3], 16):#x}" for found in seen}
        return f"{clock:.0f} MHz, {power:.0f} W, {' '.join(sorted(reasons))}"

    def leave(self, gigabytes: float) -> None:
        """Unload all models and take all memory but this much; 0 takes none."""
        if not ON_CARD:
            return
        model_management.unload_all_models()
        self._taken = torch.empty(0)
        model_management.soft_empty_cache()
        torch.cuda.synchronize()
        if gigabytes:
            free = torch.cuda.mem_get_info()[0] - int(gigabytes * 2**30)
            self._taken = torch.empty(free, dtype=torch.uint8, device="cuda")

    def peak(self) -> float:
        """The most gigabytes that PyTorch held since the last call."""
        if not ON_CARD:
            return 0
        found = torch.cuda.max_memory_allocated() - self._taken.nbytes
        torch.cuda.reset_peak_memory_stats()
        return found / 2**30

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name() if ON_CARD else "CPU"

    def link(self) -> float:
        """How many GB a second come from pinned memory."""
        if not ON_CARD:
            return 0
        host, there = (
            torch.empty(2**30, dtype=torch.uint8, pin_memory=True),
            torch.empty(2**30, device="cuda", dtype=torch.uint8),
        )
        times = []
        for _ in range(5):
            began = time.perf_counter()
            there.copy_(host)
            times.append(time.perf_counter() - began)
        return host.nbytes / 1e9 / median(times)

    def wait(self) -> None:
        """Until all work is done."""
        if ON_CARD:
            torch.cuda.synchronize()
