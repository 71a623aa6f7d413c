"""The plan of a new run: memory beside the machine's, operations, disk, and the time once it is asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import streamlit as st

from tae.model.config import ModelConfig
from tae.plots.training import plot_memory
from tae.store.names import escape_markdown
from tae.training.config import TrainConfig, snapshot_steps
from tae.ui.session.results import training_pace
from tae.ui.train.words import clock, command, in_bytes
from tae.ui.widgets.charts import chart
from tae.ui.widgets.downloads import download, download_table, export

if TYPE_CHECKING:
    from tae.model.device import Precision
    from tae.training.planning.plan import Pace, Plan

PYTORCH_BYTES = 0.5e9  # bytes that Python and PyTorch take besides, roughly


@dataclass(frozen=True)
class Needs:
    """The needs of a run, and what the machine has."""

    plan: "Plan"  # as `tae.plan` counts it
    precision: "Precision"  # that the hardware gets
    device: str  # "cpu" or "cuda"
    memory: int  # of the device, in bytes; 0 where that cannot be told

    @property
    def besides(self) -> float:
        """Bytes that no plan counts."""
        return PYTORCH_BYTES if self.device == "cpu" else 0

    @property
    def total(self) -> float:
        """Bytes at the peak of a step."""
        return self.plan.peak + self.besides

    @property
    def owner(self) -> str:
        return "the GPU" if self.device == "cuda" else "this machine"


def show_plan(config: TrainConfig) -> None:
    from tae.training.distributed import memory_bytes

    st.markdown("**Estimate**")
    model_config, average = config.model_config, bool(config.ema_decay)
    try:
        plan, precision, device = make_plan(
            model_config, config.batch_size, config.accumulate, average, config.precision, config.device
        )
    except (ValueError, RuntimeError) as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    needs = Needs(plan, precision, device, memory_bytes(device))
    kept = f"train_pace_{hash((model_config, config.batch_size, config.accumulate, precision, device))}"
    pace = st.session_state.get(kept)
    show_totals(config, needs, pace)
    show_memory(config, needs)
    show_pace(config, needs, pace, kept)
    rows = [{"bytes": name, "at_peak": one, "total": plan.totals[name]} for name, one in plan.at_peak.items()]
    with export():
        download_table("Estimate (CSV)", rows, "estimate")
        download("Command (SH)", command(config) + "\n", "train.sh")


@st.cache_data(max_entries=64, show_spinner="Counting…")
def make_plan(
    model_config: ModelConfig,
    batch_size: int,
    accumulate: int,
    average: bool,
    precision: 'Literal["auto"] | Precision',
    device: str,
) -> "tuple[Plan, Precision, str]":
    """`tae.plan.plan`; also what precision and device come to here."""
    from tae.model.device import pick_device
    from tae.training.planning.plan import plan
    from tae.training.precision import pick_precision

    place = pick_device(device)
    picked = pick_precision(precision, place, model_config, batch_size // accumulate)
    made = plan(model_config, batch_size, picked, accumulate, device=place.type, average=average)
    return made, picked, place.type


def show_totals(config: TrainConfig, needs: Needs, pace: "Pace | None") -> None:
    plan, memory = needs.plan, needs.memory
    time = f"{config.minutes:g} min" if config.minutes else "–"
    if pace and not config.minutes:
        time = clock(pace.seconds_per_step * config.steps)
    with st.container(horizontal=True, key="train_take"):
        help = f"Peak of a step, of {in_bytes(memory)} that {needs.owner} has." if memory else "Peak of a step."
        st.metric("Memory", in_bytes(needs.total), width=100, help=help)
        st.metric("Parameters", f"{plan.parameters / 1e6:,.1f} M", width=105)
        help = "N of an image; of the widest one where any width is taken."
        st.metric("Tokens", f"{plan.num_tokens:,}", width=85, help=help)
        help = "Of the whole training; press the button below to have it estimated."
        st.metric("Time", time, width=100, help=help)


def show_memory(config: TrainConfig, needs: Needs) -> None:
    """Memory by kind beside the device's, and what to do where that is not enough."""
    from tae.training.planning.plan import HEADROOM, KINDS, largest_batch
    from tae.training.planning.report import WORDS

    plan, memory, owner = needs.plan, needs.memory, needs.owner
    kinds = {WORDS[kind]: plan.at_peak[kind] for kind in KINDS if plan.at_peak[kind]}
    if needs.device == "cpu":
        kinds["PyTorch"] = int(PYTORCH_BYTES)
    figure = plot_memory(kinds, memory)
    chart(figure, "train_memory", "Memory at the peak of a step by kind, beside the memory of the device")
    if not memory or needs.total <= HEADROOM * memory:
        return
    most = largest_batch(
        config.model_config,
        max(1.0, memory - needs.besides / HEADROOM),
        needs.precision,
        config.accumulate,
        device=needs.device,
        average=bool(config.ema_decay),
    )
    remedy = (
        f"at most {most} images fit: lower **Batch size**, raise **Accumulation**"
        if most
        else "not even one image fits: choose a smaller preset or larger patches"
    )
    remedy += "" if config.use_gradient_checkpointing else ", or switch **Gradient checkpointing** on (Advanced)"
    takes, has = in_bytes(needs.total), in_bytes(memory)
    spare = f"{100 * (1 - HEADROOM):.0f}%"
    said = (
        f"**This will not fit.** It takes {takes}, and {owner} has {has}"
        if needs.total > memory
        else f"**This may not fit.** It takes {takes} of the {has} that {owner} has, and {spare} should stay free"
    )
    st.warning(f"{said}; {remedy}.", icon=":material/memory_alt:")


def show_pace(config: TrainConfig, needs: Needs, pace: "Pace | None", kept: str) -> None:
    """Operations, disk and pace in a sentence; a button times a piece of a step and keeps the pace in the session."""
    plan = needs.plan
    words = [
        f"{config.batch_size * plan.train_flops / 1e9 + plan.optimizer_flops / 1e9:,.0f} GFLOP a step",
        f"{needs.precision}, {'GPU' if needs.device == 'cuda' else 'CPU'}",
        f"disk up to {in_bytes(disk_bytes(config, plan))} with {num_snapshots(config)} snapshots",
    ]
    if pace:
        images_per_s = config.batch_size / pace.seconds_per_step
        rate = f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.2g}"
        words.append(f"about {pace.seconds_per_step:.2g} s a step, {rate} images/s ({pace.how})")
    with st.container(horizontal=True, vertical_alignment="center"):
        if not pace and st.button(
            "Estimate time",
            key="train_estimate",
            icon=":material/timer:",
            help="Times a small real piece of a step on this machine, some seconds. What else runs slows it down.",
        ):
            try:
                st.session_state[kept] = training_pace(
                    config.model_config, config.batch_size, needs.precision, config.accumulate, needs.device
                )
            except (ValueError, RuntimeError) as error:
                st.error(escape_markdown(str(error)))
            else:
                st.rerun()
        st.caption("; ".join(words))


def num_snapshots(config: TrainConfig) -> int:
    """At most: a short training has fewer steps than were asked for."""
    return config.snapshots if config.minutes else len(snapshot_steps(config.steps, config.snapshots))


def disk_bytes(config: TrainConfig, plan: "Plan") -> int:
    """Bytes that the run's files take at most: the checkpoint and snapshots, and as many states as are kept and being written."""
    from tae.training.run.state import KEPT

    copies = 1 + num_snapshots(config)
    state = plan.totals["weights"] + plan.totals["optimizer"] + plan.totals["average"]
    return copies * 4 * plan.parameters + (KEPT + 1) * state
