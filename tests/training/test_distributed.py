"""Several processes give what one gives: real processes under torchrun, exchanging over gloo."""

import os
import random
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.distributed import HashStore  # type: ignore[attr-defined]

from tae.data.demo import compose_square
from tae.model.device import pick_device
from tae.training import trainer
from tae.training.distributed import LostProcessError, World, joined, like, whole
from tae.training.run import runs
from tae.training.run.state import load_newest, state_files
from tae.training.trainer import train
from tests import ROOT
from tests.forked import run
from tests.training.small import in_ranks, same_bits, small_config, state_tensors, weights

CPU = torch.device("cpu")


KILLED_IN_STEP = """
import os, signal, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from tae.train import main
from tae.training.trainer import Trainer

learn = Trainer._learn
def fatal(self, share):
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and self.step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, share)

Trainer._learn = fatal
place = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "start_method": "fork"}
elastic_launch(LaunchConfig(1, 1, 2, max_restarts=1, **place), main)(sys.argv[1:])
os._exit(0)
"""
"""What torchrun does, with processes that start as copies of this one."""


def started(words: Sequence[str], cwd: Path, **env: str) -> subprocess.Popen:
    """A command of this environment, which knows this package wherever it stands."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PATH": path}
    everything = {**os.environ, **shared, **env}
    return subprocess.Popen(words, cwd=cwd, env=everything, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def log(out: Path) -> list[dict]:
    return runs.read_log(runs.folder_of(out))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_give_the_loss_curve_of_one(parallel: str, tmp_path: Path) -> None:
    """And to the same bits where they are resumed, or where one is lost in any step and replaced."""
    fields = {"input_size": (16, None), "max_width": 48, "batch_size": 8, "accumulate": 2}
    one, two = (tmp_path / f"{name}.safetensors" for name in ("one", "two"))
    list(train(small_config(one, **fields)))
    config = small_config(two, parallel=parallel, **fields)
    told = in_ranks([(tmp_path, config)] * 2, per_machine=2)
    assert [code for code, _ in told] == [0, 0], told
    alone, together = log(one), log(two)
    assert [record["step"] for record in together] == list(range(1, 7))
    # Before the first update, only the order of sums in float32 differs.
    assert together[0]["loss"] == pytest.approx(alone[0]["loss"], rel=1e-6)
    assert together[0]["grad_norm"] == pytest.approx(alone[0]["grad_norm"], rel=1e-5)
    # Later too, but Muon's Newton-Schulz iteration works in bf16, whose rounding (2^-8) enlarges such differences.
    for first, second in zip(alone, together, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-2)
    assert together[-1]["held_out_psnr"] == pytest.approx(alone[-1]["held_out_psnr"], abs=0.05)
    # Rank 0 alone prints and writes.
    assert told[0][1].count("saved ") == 1 and told[0][1].count("step 6/6") == 1 and not told[1][1]
    # What is saved is whole: one process can go on with it.
    names = weights(one).keys()
    folder = runs.folder_of(two)
    tensors = state_tensors(folder)
    assert all(tensors[f"model.{name}"].shape == weights(one)[name].shape for name in names)
    kept = [runs.snapshots(runs.folder_of(out)) for out in (one, two)]
    assert [path.name for path in kept[0]] == [path.name for path in kept[1]] and len(kept[0]) > 3
    assert same_bits(weights(kept[1][0]), weights(kept[0][0]))  # the same untrained weights
    assert weights(kept[1][-1]).keys() == names
    if parallel == "ddp":
        broken = replace(config, out=tmp_path / "broken.safetensors", save_every_s=0, resume=True)
        # Rank 1 is past its second step only when rank 0 has written the first one's state.
        script = KILLED_IN_STEP.replace("STEP", str(random.randrange(2, 6)))
        ended = run("-c", script, *broken.command_line(), cwd=tmp_path)
        assert ended.returncode == 0 and "resuming after step" in ended.stdout, ended
        assert same_bits(state_tensors(runs.folder_of(broken.out_path)), tensors)
        assert runs.read_run(runs.folder_of(broken.out_path)).status == "finished"
    else:
        state_files(folder)[0].unlink()  # as if it had been killed in the last step
        two.unlink()
        runs.write_status(folder, "running", step=5, steps=6)
        told = in_ranks([(tmp_path, replace(config, resume=True))] * 2, per_machine=2)
        assert told[0][0] == 0 and "resuming after step 5 of 6" in told[0][1], told
        assert same_bits(state_tensors(folder), tensors) and two.is_file()


@pytest.mark.slow
def test_two_machines_of_two_processes_each_give_what_one_gives(tmp_path: Path) -> None:
    """HSDP: each process writes a part of the state, and one process goes on from them."""
    fields = {"input_size": (16, None), "max_width": 48, "batch_size": 8}
    one, four = (tmp_path / f"{name}.safetensors" for name in ("one", "four"))
    list(train(small_config(one, **fields)))
    config = small_config(four, parallel="hsdp", **fields)
    told = in_ranks([(tmp_path, config)] * 4, per_machine=2)
    assert [code for code, _ in told] == [0] * 4, told
    for first, second in zip(log(one), log(four), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-6 if first["step"] == 1 else 1e-2)
    shards = state_files(runs.folder_of(four))[0].with_suffix(".shards")
    tensors = state_tensors(runs.folder_of(four))
    written = [tensor for part in shards.iterdir() for tensor in load_file(part).values()]
    assert sum(map(torch.numel, written)) == sum(map(torch.numel, tensors.values()))  # each number once, by one process
    assert tensors.keys() == state_tensors(runs.folder_of(one)).keys()
    alone = replace(config, steps=7, resume=True)
    *_, last = train(alone)
    assert last.step == 7 and last.saved == four
    part = next(shards.iterdir())
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    state_files(runs.folder_of(four))[0].unlink()
    said = ["state-00000006.safetensors is passed over: its parts are damaged"]
    assert load_newest(runs.folder_of(four)) == (None, said)


SRUN = """#!/bin/sh
"$@" & first=$!
"$@"; second=$?
wait $first && exit $second
"""  # as on two machines


@pytest.mark.slow
def test_the_readme_s_commands_train_on_two_machines_and_say_the_same_under_slurm(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(6):
        Image.fromarray(compose_square("train", index, side=16)).save(tmp_path / "images" / f"{index}.png")
    section = (ROOT / "tae" / "training" / "README.md").read_text().split("<!-- several machines -->")[1]
    by_hand, by_slurm = re.findall(r"^(torchrun .*?)(?=^sbatch)|^(sbatch .*?')$", section, re.DOTALL | re.MULTILINE)
    config = small_config(tmp_path / "shared" / "small.safetensors", data="images", resume=True)

    def here(command: str, steps: int) -> str:
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]
        ours = shlex.join(replace(config, steps=steps).command_line())
        command = re.sub(r"small --data.*--resume", ours, command)
        return command.replace("nproc_per_node=4", "nproc_per_node=1").replace(":29400", f":{port}")

    words = here(by_hand[0], 6).replace("HOST", "localhost")
    machines = [started(["sh", "-c", words], tmp_path) for _ in range(2)]
    printed = [machine.communicate()[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    assert runs.read_run(runs.folder_of(config.out_path)).status == "finished" and "".join(printed).count("saved ") == 1

    scripts = {"srun": SRUN, "scontrol": "#!/bin/sh\necho localhost; echo other\n"}
    scripts["sbatch"] = '#!/bin/sh\nwhile [ "$1" != --wrap ]; do shift; done\nexec sh -c "$2"\n'
    scripts["torchrun"] = '#!/bin/sh\necho "$@"\n'  # what it does with these words was seen above
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost,other"}
    job = started(["sh", "-c", here(by_slurm[1], 8)], tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", **slurm)
    said = job.communicate()[0].splitlines()
    assert job.returncode == 0 and len(said) == 2 and said[0] == said[1]  # one for each machine
    words, ours = said[0].split(" -m tae.train ")
    assert ours.split() == replace(config, steps=8).command_line()
    host, port = words.split("--rdzv-endpoint=")[1].split(":")
    assert host == "localhost" and port.isdigit()
    assert words.split()[:-1] == ["--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=c10d", "--rdzv-id=7"]


def use_other_code() -> None:
    trainer.code_digest = lambda: "another"  # type: ignore[assignment]


SAID = {
    "files": "all processes must find the same files; rank 1 has 1 that differ, such as 3.png: No such file",
    "content": "the same files; rank 1 has 1 that differ, such as 3.png: its content is another than where it was read",
    "code": f"all processes must have the same code and settings; rank 1 has tae another, and {trainer.code_digest()} on",
    "settings": "all processes must have the same code and settings; rank 1 has steps 3, and 2 on rank 0",
    "folder": "all machines must share the folder of the run, as on a network disk; name it by --out; rank 1 has another",
}


@pytest.mark.slow
@pytest.mark.parametrize("differs", SAID)
def test_processes_that_differ_are_told_in_what_before_the_first_step(differs: str, tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    for machine in (here, there):
        (machine / "images").mkdir(parents=True)
        for index in range(6):
            Image.fromarray(compose_square("train", index, side=16)).save(machine / "images" / f"{index}.png")
    out = Path("x.safetensors") if differs == "folder" else tmp_path / "x.safetensors"
    config = small_config(out, data="images", steps=2)
    if differs == "files":
        (there / "images" / "3.png").unlink()
    elif differs == "content":  # of the same size
        raw = (there / "images" / "3.png").read_bytes()
        (there / "images" / "3.png").write_bytes(raw[:-1] + b"?")
    other = replace(config, steps=3) if differs == "settings" else config
    told = in_ranks([(here, config), (there, other)], differs=use_other_code if differs == "code" else bool)
    assert [code for code, _ in told] == [1, 1] and SAID[differs] in told[0][1], told
    assert "error" not in told[1][1]  # one of them says it
    assert not (tmp_path / "x.safetensors").exists()


def test_errors_of_the_exchange_are_told_as_a_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.rendezvous", lambda *_, **__: iter([(HashStore(), 0, 2)]))
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: None)
    said = "is lost, or did not answer within 3 minutes; torchrun --max-restarts=3 with --resume replaces it"
    with pytest.raises(LostProcessError, match=said), joined("cpu", 3):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(RuntimeError, match="^a shape does not fit$"), joined("cpu"):
        raise RuntimeError("a shape does not fit")


def test_batches_that_processes_cannot_share_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tae.training.trainer.joined", lambda *_: nullcontext(World(1, 2, CPU)))
    said = "batch_size must be a multiple of processes times accumulate, got 3, 2 and 1"
    with pytest.raises(ValueError, match=said):
        list(train(small_config(tmp_path / "x.safetensors", batch_size=3)))


def test_alone_a_world_agrees_with_itself() -> None:
    world = World(0, 1, CPU)
    assert world.is_main and world.sum(1.5, -2.0) == [1.5, -2.0] and world.any(False, True) == [False, True]
    assert world.from_main(3.0) == 3.0 and world.gather("ä") == ["ä"]


def test_a_plain_tensor_is_copied_whole_and_laid_out_as_it_was() -> None:
    tensor = torch.randn(3, 4).T
    copy = whole(tensor)
    assert copy.is_contiguous() and torch.equal(copy, tensor)
    copy.zero_()
    assert tensor.abs().sum() > 0 and torch.equal(like(copy, tensor), copy)


def test_47_hardware_is_chosen_by_what_there_is() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="got 'cuda' where there is none; choose 'auto' or 'cpu'"):
            pick_device("cuda")
