"""How many people one server bears: their waiting, their numbers, its memory, and whether one slows the others.

    python -m benchmarks.sessions

Visitors (`benchmarks.visitor`) speak to a real server on this machine, from a process beside it. They change layer, head and
page, and drop images of their own, all at once; what each of them was shown is compared, bit for bit, with what a fresh server
shows to one visitor after the other. Writes `benchmarks/results/sessions.json` and `sessions.md`; about six minutes.
"""

import asyncio
import json
import os
import platform
import random
import re
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from streamlit.proto.Element_pb2 import Element

from benchmarks import RESULTS, grid, keep
from benchmarks.visitor import Visitor
from tae.data.demo import compose_square
from tae.data.encode import encode_png
from tae.model.config import preset_config
from tests.served import running_server

ROOT = RESULTS.parents[1]
PAGES = ("", "compare", "layers", "latent", "models")
HELD_DROP = 3
"""The move at which a visitor drops an image of their own."""
FINE = "fine_1280x152_p8"
"""A model of 3,040 patches, made for this."""


@dataclass(frozen=True)
class SessionsConfig:
    sessions: int = 20
    """Visitors at once."""
    moves: int = 10
    """What each of them does, one thing after the other."""
    interactions: int = 1000
    """Moves of one visitor after which memory is read again."""
    only: tuple[str, ...] = ("load", "fair", "memory", "closed")
    """Parts to measure; results of parts that are left out stay as they were."""
    out: Path = RESULTS
    """Folder of the results."""


Move = tuple[str, dict[str, str]]


def walk(seed: int, moves: int) -> list[Move]:
    """Pages and views: a change of page every third time, else of layer and head."""
    chance = random.Random(seed)
    page, found = "", []
    for number in range(moves):
        if number % 3 == 2:
            page = chance.choice(PAGES)
        view = {"part": chance.choice(("encoder", "decoder")), "layer": str(chance.randrange(3))}
        if page in ("", "compare"):
            view["head"] = chance.choice(("mean", "0", "1", "2", "3"))
        found.append((page, view if page in ("", "compare") else {}))
    return found


def is_own(element: Element) -> bool:
    """Whether no two visitors have it alike: how long something takes here, the secret in the cookie."""
    return bool(re.search(rb"about \d+ (s|min)|seconds|\d ms|document\.cookie", element.SerializeToString()))


async def visit(visitor: Visitor, seed: int, moves: int, drops: bool) -> list[tuple[float, Counter[str]]]:
    """For each move, how long it took, and what stood on the page."""
    found = []
    for number, (page, view) in enumerate(walk(seed, moves)):
        started = time.perf_counter()
        if drops and number == HELD_DROP:
            await visitor.open("")
            started = time.perf_counter()
            await visitor.drop("reconstruct_files", (f"{seed}.png", own_image(seed)))
        else:
            await visitor.open(page, **view)
        found.append((time.perf_counter() - started, visitor.numbers(is_own)))
    return found


def own_image(seed: int) -> bytes:
    return encode_png(compose_square("test", 100 + seed))


async def load(config: SessionsConfig) -> dict[str, Any]:
    with running_server() as (address, pid):
        await warmed(address)
        async with Visitor(address) as one:
            alone = [took for took, _ in (await visit(one, 0, 3 * config.moves, drops=False))[2:]]
        visitors = [await Visitor(address).__aenter__() for _ in range(config.sessions)]
        await asyncio.gather(*(one.open("") for one in visitors))
        began, worked = time.perf_counter(), processor_seconds(pid)
        seen = await asyncio.gather(
            *(visit(one, seed, config.moves, drops=True) for seed, one in enumerate(visitors, start=1))
        )
        took, worked = time.perf_counter() - began, processor_seconds(pid) - worked
        received = sum(one.received for one in visitors)
        for one in visitors:
            await one.__aexit__()
    waits = [wait for moves in seen for wait, _ in moves]
    wrong = compared = 0
    with running_server() as (address, _):
        for seed, moves in enumerate(seen, start=1):
            async with Visitor(address) as one:
                await one.open("")
                for (_, here), (_, there) in zip(moves, await visit(one, seed, config.moves, True), strict=True):
                    compared += there.total()
                    wrong += max((here - there).total(), (there - here).total())
    return {
        "sessions": config.sessions,
        "moves": len(waits),
        "moves_per_s": len(waits) / took,
        "median_s": statistics.median(waits),
        "p95_s": float(np.percentile(waits, 95)),
        "alone_s": statistics.median(alone),
        "processor_s": worked / len(waits),
        "kilobytes": received / len(waits) / 1000,
        "compared": compared,
        "wrong": wrong,
    }


async def warmed(address: str) -> None:
    """Every page once, so that what a first visitor computes is kept."""
    async with Visitor(address) as one:
        for page in PAGES:
            await one.open(page)


async def fair(config: SessionsConfig) -> dict[str, Any]:
    """How much longer a click takes while another visitor's sweep runs over a model of 3,040 patches."""
    with tempfile.TemporaryDirectory() as home:
        shelf = with_fine_model(Path(home))
        with running_server(TAE_CHECKPOINTS=str(shelf)) as (address, _):
            await warmed(address)
            async with Visitor(address) as one, Visitor(address) as other:
                await one.open("", checkpoint="drops_tiny_201x201_p16.safetensors")
                clicks = [
                    f"{part}/{layer}/{head}" for part in ("encoder", "decoder") for layer in "012" for head in "0123"
                ]
                quiet = [await click(one, clicks[number]) for number in range(8)]
                at_work = await sweeping(other)
                busy = [await click(one, clicks[number]) for number in range(8, 24)]
                still = not at_work.done()
                at_work.cancel()
    return {
        "quiet_s": statistics.median(quiet),
        "busy_s": statistics.median(busy),
        "slowest_s": max(busy),
        "ratio": statistics.median(busy) / statistics.median(quiet),
        "sweep_still_ran": still,
    }


async def click(visitor: Visitor, head: str) -> float:
    """Seconds until the page shows the image without this head."""
    started = time.perf_counter()
    await visitor.open("", checkpoint="drops_tiny_201x201_p16.safetensors", changes=head)
    return time.perf_counter() - started


async def sweeping(visitor: Visitor) -> asyncio.Task:
    """The page Ablation at work on the fine model: at once, or, where this machine takes long for it, when it is asked to."""

    async def everything() -> None:
        await visitor.open("causal", checkpoint=f"{FINE}.safetensors")
        for start in ("work_start_necessity", "work_start_baseline", "work_start_sweep"):
            if visitor.has(start):
                await visitor.set(start, trigger_value=True)

    await visitor.open("", checkpoint=f"{FINE}.safetensors")
    task = asyncio.create_task(everything())
    await asyncio.sleep(3)
    return task


def with_fine_model(home: Path) -> Path:
    """The shipped checkpoints, and one more of 3,040 patches with random weights."""
    from tae import Card, create_autoencoder, save_checkpoint

    shelf = home / "checkpoints"
    shutil.copytree(ROOT / "checkpoints", shelf, ignore=shutil.ignore_patterns("runs"))
    torch.manual_seed(0)
    shape = preset_config("tiny", input_size=(152, 1280), patch_size=8)
    model = create_autoencoder(input_size=shape.input_size, preset="tiny", patch_size=8)
    card = Card(name=FINE, training={"steps": 0}, metrics={}, data="", licence="", notes="Random weights.")
    save_checkpoint(shelf / f"{FINE}.safetensors", model, card)
    return shelf


async def memory(config: SessionsConfig) -> dict[str, Any]:
    """Megabytes that the server holds after a tenth of the interactions, and after all of them."""
    with running_server() as (address, pid):
        await warmed(address)
        held = []
        async with Visitor(address) as one:
            for number, (page, view) in enumerate(walk(1, config.interactions)):
                if number % max(1, config.interactions // 10) == 0:
                    held.append(resident_megabytes(pid))
                await one.open(page, **view)
        held.append(resident_megabytes(pid))
    return {"interactions": config.interactions, "megabytes": held, "drift": held[-1] - held[1]}


async def closed(config: SessionsConfig) -> dict[str, Any]:
    """Seconds from a page's closing to the end of its work."""
    home = tempfile.TemporaryDirectory()
    with home, running_server(TAE_CHECKPOINTS=str(with_fine_model(Path(home.name)))) as (address, pid):
        async with Visitor(address) as one:
            at_work = await sweeping(one)
            before = processor_seconds(pid)
            await asyncio.sleep(2)
            share = (processor_seconds(pid) - before) / 2
        at_work.cancel()
        began = time.perf_counter()
        while time.perf_counter() - began < 60:
            before = processor_seconds(pid)
            await asyncio.sleep(0.5)
            if processor_seconds(pid) - before < 0.1:
                break
    return {"share_before": share, "seconds": time.perf_counter() - began - 0.5}


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(result: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    rows = []
    if one := result.get("load"):
        rows += [
            (
                f"{one['sessions']} change layer, head and page, and drop",
                f"{one['moves_per_s']:.1f} moves a second; median {one['median_s']:.2f} s, 95th percentile {one['p95_s']:.2f} s",
            ),
            (
                "one alone",
                f"median {one['alone_s']:.2f} s; {one['processor_s']:.2f} processor seconds and {one['kilobytes']:.0f} kB a move",
            ),
            (
                "what they were shown, against a server of one's own",
                f"{one['wrong']} wrong of {one['compared']:,} elements",
            ),
        ]
    if one := result.get("fair"):
        told = (
            f"{one['ratio']:.1f} times as long as without ({one['busy_s']:.2f} s; the slowest {one['slowest_s']:.2f} s)"
        )
        rows.append(("a head ablated (N = 169), beside a sweep (N = 3040)", told))
    if one := result.get("memory"):
        told = f"{one['megabytes'][-1]:.0f} MB resident, {one['drift']:+.0f} since the first tenth"
        rows.append((f"one, {one['interactions']:,} times", told))
    if one := result.get("closed"):
        rows.append(("one closes the page in the middle of a sweep", f"its work ends within {one['seconds']:.1f} s"))
    return [*grid(["visitors at once", "what holds"], rows), "", f"{result['machine']}, visitors beside the server."]


def measured(config: SessionsConfig, parts: Sequence[str]) -> dict[str, Any]:
    found = {}
    for name in parts:
        found[name] = asyncio.run({"load": load, "fair": fair, "memory": memory, "closed": closed}[name](config))
        print(name, found[name], flush=True)
    return found


def main(config: SessionsConfig) -> None:
    before = config.out / "sessions.json"
    kept = json.loads(before.read_text()) if before.exists() else {}
    busy = os.getloadavg()[0]
    result = {
        **kept,
        **measured(config, config.only),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, "
        f"load {busy:.1f} as it began",
    }
    keep("sessions", result, table(result), config.out)


if __name__ == "__main__":
    main(tyro.cli(SessionsConfig, description=__doc__))
