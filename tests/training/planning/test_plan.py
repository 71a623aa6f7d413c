"""The plan equals real training steps: what they keep, their peak, their operations; its benchmark's committed figures do too."""

import json
import math
import re
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import training
from benchmarks.planner import Case, Step, peak_of, run_twice, saved_bytes
from tae import ModelConfig, TransformerAutoencoder
from tae.cli import read
from tae.model.config import preset_config
from tae.plan import main
from tae.training.images.sources import FileSource
from tae.training.optim import is_block_matrix
from tae.training.planning.plan import HEADROOM, KINDS, calibrate, largest_batch, plan, rough_step_flops
from tae.training.planning.report import PlanConfig, report
from tests import ROOT

pytestmark = pytest.mark.slow

SMALL = ModelConfig(input_size=(32, 32), patch_size=8, latent_dim=16, num_heads=2, encoder_layers=2, decoder_layers=1)
CONFIGS = {
    "square": SMALL,
    "odd size": replace(SMALL, input_size=(19, 37)),
    "one token": replace(SMALL, patch_size=None),
    "any width": replace(SMALL, input_size=(24, None), max_width=64),
    "explicit attention": replace(SMALL, use_flash_attention=False),
    "dropout": replace(SMALL, dropout=0.1),
    "checkpointing": replace(SMALL, use_gradient_checkpointing=True),
}
FEW = preset_config("tiny", input_size=(120, 120), encoder_layers=2, decoder_layers=1)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "precision", "batch_size"),
    [
        *((name, precision, 3) for name in CONFIGS for precision in ("fp32", "bf16")),
        *((name, "fp32", 1) for name in ("square", "explicit attention", "dropout")),
    ],
)
def test_what_is_kept_is_what_a_real_pass_keeps(name, precision, batch_size):
    config = CONFIGS[name]
    kept = plan(config, batch_size, precision).totals
    case = Case(group="", config=config, batch_size=batch_size, precision=precision)
    # With one image and attention that is not fused PyTorch makes copies that it spares itself with more.
    is_fused = config.use_flash_attention and not config.dropout
    tolerance = 0.1 if batch_size == 1 and not is_fused else 0
    assert kept["activations"] + kept["copies"] == pytest.approx(saved_bytes(case), rel=tolerance, abs=0)
    assert (kept["copies"] > 0) == (precision == "bf16")


def test_what_is_kept_at_a_narrower_width_is_what_a_real_pass_keeps():
    config = CONFIGS["any width"]
    case = Case(group="", config=config, batch_size=2, width=20)
    assert plan(config, 2, width=20).totals["activations"] == saved_bytes(case)
    assert plan(config, 2).totals["activations"] > plan(config, 2, width=20).totals["activations"]
    assert plan(config, 2) == plan(config, 2, width=64)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_peak_is_within_a_tenth_of_real_steps(precision, checkpointing):
    config = replace(FEW, use_gradient_checkpointing=checkpointing)
    case = Case(group="", config=config, batch_size=4, precision=precision)
    assert plan(config, 4, precision).peak == pytest.approx(peak_of(lambda: run_twice(case, CPU), CPU), rel=0.1)


def test_peak_in_parts_and_with_an_average_is_within_a_tenth_of_real_steps():
    case = Case(group="", config=FEW, batch_size=6, accumulate=3, average=True)
    planned = plan(FEW, 6, accumulate=3, average=True)
    assert planned.peak == pytest.approx(peak_of(lambda: run_twice(case, CPU), CPU), rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_peak_on_a_gpu_is_within_a_tenth_of_real_steps(precision):
    config, device = preset_config("small"), torch.device("cuda")
    case = Case(group="", config=config, batch_size=32, precision=precision)
    run_twice(case, device)  # what libraries take once
    measured = peak_of(lambda: run_twice(case, device), device)
    assert plan(config, 32, precision, device="cuda").peak == pytest.approx(measured, rel=0.1)


def test_weights_gradients_and_optimizer_state_are_the_real_ones():
    step = Step(Case(group="", config=SMALL, batch_size=2), CPU)
    step()
    parameters = list(step.model.parameters())
    state = [value for optimizer in step.optimizers for values in optimizer.state.values() for value in values.values()]
    planned = plan(SMALL, 2, average=True)
    assert planned.parameters == sum(parameter.numel() for parameter in parameters)
    assert planned.totals["weights"] == sum(parameter.nbytes for parameter in parameters)
    assert planned.totals["gradients"] == planned.totals["average"] == planned.totals["weights"]
    assert planned.totals["optimizer"] == sum(tensor.nbytes for tensor in state)


def test_optimizer_state_by_hand():
    named = list(TransformerAutoencoder(SMALL).named_parameters())
    matrices = [parameter.numel() for name, parameter in named if is_block_matrix(name, parameter)]
    others = [parameter.numel() for name, parameter in named if not is_block_matrix(name, parameter)]
    # Muon keeps one momentum; AdamW two moments, and for each tensor a count of its steps.
    assert plan(SMALL, 1).totals["optimizer"] == 4 * sum(matrices) + 8 * sum(others) + 4 * len(others)


def test_peak_is_the_sum_of_its_kinds_and_none_exceeds_its_total():
    for config in CONFIGS.values():
        planned = plan(config, 4, "bf16")
        assert list(planned.totals) == list(planned.at_peak) == list(KINDS)
        assert planned.peak == sum(planned.at_peak.values())
        assert all(0 <= planned.at_peak[kind] <= planned.totals[kind] for kind in KINDS)


def test_peak_lies_where_most_is_alive():
    # Next to no activations: what is left is the optimizer with all gradients.
    one_token = plan(preset_config("tiny", patch_size=None), 1)
    assert one_token.peak_phase == "optimizer"
    assert one_token.at_peak["gradients"] == one_token.totals["gradients"] and not one_token.at_peak["activations"]
    # Gradients come as activations go; only in parts are they there from the start.
    patches, in_parts = plan(preset_config("tiny"), 16), plan(preset_config("tiny"), 32, accumulate=2)
    assert patches.peak_phase != "optimizer" and patches.at_peak["gradients"] < patches.totals["gradients"] / 2
    assert in_parts.at_peak["gradients"] == in_parts.totals["gradients"]
    assert in_parts.totals["activations"] == patches.totals["activations"]


def test_checkpointing_keeps_less_and_computes_a_block_again():
    config = preset_config("tiny")
    plain, less = plan(config, 16), plan(replace(config, use_gradient_checkpointing=True), 16)
    assert less.totals["activations"] < plain.totals["activations"] / 4
    assert less.peak < plain.peak / 2
    assert less.totals["working"] > plain.totals["working"]  # the block that is computed again
    dim, num_tokens = config.latent_dim, config.num_tokens
    block = 2 * 8 * dim**2 * num_tokens + 2 * 2 * num_tokens**2 * dim  # its last product is not needed a second time
    assert less.train_flops - plain.train_flops == 6 * block


@pytest.mark.parametrize("name", ["square", "one token", "any width"])
def test_operations_agree_with_pytorchs_own_counter_on_a_real_step(name):
    # Its counter has no formula for the CPU's fused attention, so the real step is one with explicit attention.
    config = replace(CONFIGS[name], use_flash_attention=False)
    step = Step(Case(group="", config=config, batch_size=2), CPU)
    planned = plan(config, 2)
    with FlopCounterMode(display=False) as counter:
        step()
    assert counter.get_total_flops() == 2 * planned.train_flops + planned.optimizer_flops
    assert planned.forward_flops < planned.train_flops / 2


def test_operations_of_the_optimizer_by_hand():
    dim, layers, iterations = 16, 3, 5

    def newton_schulz(short: int, long: int) -> int:
        return iterations * (2 * short**2 * long + 2 * short**3 + 2 * short**2 * long)

    block = newton_schulz(dim, 3 * dim) + newton_schulz(dim, dim) + 2 * newton_schulz(dim, 4 * dim)
    assert plan(SMALL, 1).optimizer_flops == plan(SMALL, 8).optimizer_flops == layers * block


@pytest.mark.parametrize("batch_size", [2, 40])
def test_rough_operations_of_a_step_are_within_a_tenth_of_the_planned_ones(batch_size):
    for config in (preset_config("tiny", encoder_layers=4, decoder_layers=1), replace(FEW, patch_size=32, mlp_ratio=2)):
        planned = plan(config, batch_size)
        step = batch_size * planned.train_flops + planned.optimizer_flops
        assert rough_step_flops(config, batch_size) == pytest.approx(step, rel=0.1)


def test_largest_batch_fits_and_one_more_does_not():
    for config in (SMALL, CONFIGS["checkpointing"], CONFIGS["one token"]):
        memory = 3e6
        most = largest_batch(config, memory, device="cpu")
        assert plan(config, most).peak <= HEADROOM * memory < plan(config, most + 1).peak
    in_parts = largest_batch(SMALL, 3e6, accumulate=3, device="cpu")
    assert in_parts % 3 == 0 and in_parts > largest_batch(SMALL, 3e6, device="cpu")
    assert largest_batch(SMALL, 1000, device="cpu") == 0


def test_a_gpu_keeps_attention_in_half_precision_and_masks_of_dropout_as_bytes():
    config = FEW
    assert plan(config, 4, device="cuda").totals["activations"] == plan(config, 4).totals["activations"]
    heads = 4 * config.num_tokens * config.latent_dim  # numbers of q, k or v
    saved = plan(config, 4, "bf16").totals["activations"] - plan(config, 4, "bf16", device="cuda").totals["activations"]
    # q, k and v come as halves of the projection's output; attention's output is kept once in place of twice.
    assert saved == 3 * (3 * 4 - 3 * 2 + 4) * heads
    dropping = replace(config, dropout=0.1)
    more = plan(dropping, 4, "bf16", device="cuda").totals["activations"]
    more -= plan(config, 4, "bf16", device="cuda").totals["activations"]
    assert more == 6 * heads  # a byte for each number that a block's two parts put out


def test_plans_are_the_same_wherever_they_are_asked_for_and_draw_no_random_number():
    config = replace(SMALL, latent_dim=24)
    before = torch.get_rng_state()
    with torch.inference_mode():
        planned = plan(config, 5, "bf16")
    assert torch.equal(torch.get_rng_state(), before)
    assert planned == plan(replace(config), 5, "bf16")


def test_a_billion_parameters_are_planned_without_being_allocated():
    plan(SMALL, 1)  # what PyTorch loads at first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = {"latent_dim": 8192, "num_heads": 64, "encoder_layers": 1, "decoder_layers": 1}
    planned = plan(preset_config("xlarge", input_size=(152, 1280), patch_size=8, **sizes), 1)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert planned.parameters > 1e9 and planned.peak > 20e9 and grown < 100 * 1024**2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"batch_size": 0}, "batch_size must be a positive multiple of accumulate, got 0 and 1"),
        ({"batch_size": 4, "accumulate": 3}, "batch_size must be a positive multiple of accumulate, got 4 and 3"),
        ({"batch_size": 4, "precision": "int8"}, "precision must be one of fp32, bf16, fp16, got 'int8'"),
        ({"batch_size": 4, "device": "tpu"}, "device must be 'cpu' or 'cuda', got 'tpu'"),
        ({"batch_size": 4, "width": 40}, "width must be 32, got 40"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values, said):
    with pytest.raises(ValueError) as refused:
        plan(SMALL, **values)
    assert str(refused.value) == said


def test_a_width_beyond_the_widest_is_refused():
    with pytest.raises(ValueError, match="width must be from 1 to 64 .max_width., got 65"):
        plan(CONFIGS["any width"], 1, width=65)
    with pytest.raises(ValueError, match="memory must be a positive number of bytes, got 0"):
        largest_batch(SMALL, 0)


@pytest.mark.parametrize(
    "config",
    [CONFIGS["one token"], replace(CONFIGS["any width"], dropout=0.1, use_gradient_checkpointing=True)],
    ids=["one token", "any width, dropout, checkpointing"],
)
def test_calibration_times_every_kind_of_model_and_leaves_the_random_numbers_alone(config):
    before = torch.get_rng_state()
    pace = calibrate(config, 4, "bf16", accumulate=2, seconds=0.05)
    assert torch.equal(torch.get_rng_state(), before)
    assert pace.forward_backward > 0 and pace.optimizer > 0
    assert pace.seconds_per_step == pace.forward_backward + pace.optimizer
    assert pace.how.startswith("timed: ")


def test_calibration_of_much_work_times_a_small_piece_of_it():
    large = preset_config("small", input_size=(1024, 1024), patch_size=8, encoder_layers=1, decoder_layers=1)
    pace = calibrate(large, 64, seconds=0.01)
    assert "1 image of 128 tokens" in pace.how  # one row of patches in place of 64 images of 128 rows


def test_whatever_train_takes_is_planned(tmp_path: Path):
    for number in range(9):
        Image.new("L", (32, 32), 20 * number).save(tmp_path / f"{number}.png")
    words = ["tiny", "--data", str(tmp_path), "--input-size", "32", "32", "--patch-size", "8", "--ema-decay", ".9"]
    words += ["--encoder-layers", "1", "--batch-size", "3", "--lr", ".1", "--out", "x", "--resume", "--threads", "1"]
    config = read(PlanConfig, [*words, "--epochs", "4"], None)
    text = report(config)
    assert "averaged weights" in text and re.search(r"(fp32|bf16) on cpu", text)  # measured, as the training does it
    assert f"for {4 * math.ceil((FileSource(config).num_images or 0) / 3)} steps" in text
    assert "steps in 2 minutes" in report(read(PlanConfig, [*words, "--minutes", "2"], None))
    assert "bf16 on cuda" in report(replace(config, device="cuda", precision="auto", calibrate=False))


def test_report_says_what_the_plan_says():
    config = PlanConfig(preset="tiny", batch_size=8, precision="bf16", device="cpu", memory_gb=2, calibrate=False)
    planned = plan(preset_config("tiny"), 8, "bf16")
    text = report(config)
    assert f"{planned.peak / 1e6:,.1f}" in text and f"{planned.totals['activations'] / 1e6:,.1f}" in text
    assert (
        f"largest batch for 2 GB, with 10% left free: {largest_batch(preset_config('tiny'), 2e9, 'bf16', device='cpu')}"
        in text
    )
    assert "not even one image fits into 0.01 GB" in report(replace(config, memory_gb=0.01))
    if not torch.cuda.is_available():
        assert "there is no CUDA device here" in report(replace(config, device="cuda", calibrate=True))


@pytest.mark.parametrize(
    ("arguments", "is_fine", "said"),
    [
        (["tiny", "--input-size", "32", "32", "--patch-size", "8", "--batch-size", "4"], True, "s a step"),
        (["tiny", "--input-size", "0", "0"], False, "error: input_size height must be a whole number from 1 to 8192"),
        (["tiny", "--memory-gb", "-1"], False, "memory_gb must be a number from 0.001 to 1e+06, got -1"),
    ],
)
def test_command_line_prints_a_plan_or_says_what_is_wrong(arguments, is_fine, said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    try:
        code = main(arguments)
    except SystemExit as end:  # how the reader of the command line refuses
        code = end.code
    assert (code == 0) == is_fine
    assert said in "".join(capsys.readouterr())


def test_committed_comparison_is_within_a_tenth():
    result = json.loads((ROOT / "benchmarks" / "results" / "planner.json").read_text())
    assert len(result["rows"]) >= 72
    for row in result["rows"]:
        assert row["planned_peak"] == pytest.approx(row["measured_peak"], rel=0.1), row
        if row["device"] == "cpu":
            assert row["planned_activations"] == row["measured_activations"], row


def test_training_benchmark_runs_and_sets_every_claim_beside_a_figure():
    result = training.run(training.TrainingConfig(quick=True))
    text = "\n".join(training.table(result))
    for claim in training.CLAIMS.values():
        assert f"**{claim}**" in text
    claims, totals, step = (part for part in text.split("\n\n") if part.startswith("|"))
    assert len(claims.splitlines()) == 3 + 4 + (result["device_type"] != "cuda")
    assert ("not measured: no CUDA device" in claims) == (result["device_type"] != "cuda")
    assert len(totals.splitlines()) == 2 + 3 and all(f"{claimed} MB" in totals for claimed in (630, 580, 430))
    assert len(step.splitlines()) == 2 + 2
    for table in (claims, totals, step):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_pytorchs_own_encoder_in_the_benchmark_is_of_the_same_size():
    setting = training.settings(training.TrainingConfig(quick=True))[0]
    ours, stock = (training.build(setting, variant) for variant in (training.BASE, training.STOCK))
    assert sum(map(torch.numel, ours.parameters())) == sum(map(torch.numel, stock.parameters()))
    images = training.images_for(setting, CPU)
    assert ours(images)[0].shape == stock(images)[0].shape
