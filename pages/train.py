"""The page Train: from a folder, a drop or the demo data to a checkpoint; watching, stopping, resuming, comparing runs."""

import ast
import base64
import inspect
import math
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import streamlit as st
from PIL import Image

from tae import dropped, export, plots, runs, ui
from tae.config import PRESETS, ModelConfig, size_in_words
from tae.dropped import Dropped
from tae.images import SUFFIXES, encode_png, escape_markdown, plain_text, safe_name
from tae.trainconfig import TrainConfig, command_line, snapshot_steps

if TYPE_CHECKING:
    from tae.preview import Found, Preview

TASKS = {"new": "New training", "runs": "Runs", "compare": "Compare"}
KINDS = {"folder": "Folder", "dropped": "Pictures or ZIP", "demo": "Demo garments"}
PATCHES = (4, 8, 16, 32, 64, None)
REFRESH_S = 3
MAX_ZIP_MB = 500
LOCAL = ("127.0.0.1", "localhost", "::1")
PYTORCH_BYTES = 0.5e9  # what Python and PyTorch take besides, roughly
STANDARD = TrainConfig()

# In a page, a text that stands alone would be shown: so comments say what these are.
# Fields of `TrainConfig` that most people leave alone, by heading.
ADVANCED = {
    "Optimiser": ("muon_lr", "adamw_lr", "weight_decay", "warmup_steps", "clip_norm", "ema_decay", "accumulate"),
    "Augmentation of your images": ("flip", "shift", "zoom", "contrast"),
    "Model": ("latent_dim", "num_heads", "encoder_layers", "decoder_layers", "mlp_ratio", "dropout"),
    "Computing": (
        "precision",
        "device",
        "threads",
        "workers",
        "use_gradient_checkpointing",
        "use_flash_attention",
        "use_compile",
    ),
    "Watching and saving": (
        "seed",
        "held_out_images",
        "eval_every",
        "log_every",
        "save_every_s",
        "snapshots",
        "max_unreadable",
    ),
}
LABELS = {
    "muon_lr": "Learning rate of Muon",
    "adamw_lr": "Learning rate of AdamW",
    "warmup_steps": "Warm-up steps",
    "clip_norm": "Gradient clipping",
    "ema_decay": "Average of weights",
    "accumulate": "Accumulation",
    "latent_dim": "Latent",
    "num_heads": "Heads",
    "mlp_ratio": "MLP ratio",
    "threads": "CPU threads",
    "workers": "Reading threads",
    "use_gradient_checkpointing": "Gradient checkpointing",
    "use_flash_attention": "Fused attention",
    "use_compile": "Compile",
    "save_every_s": "Save every (s)",
    "max_unreadable": "Unreadable files allowed",
}
AUTOMATIC = ("eval_every", "log_every")  # left empty, they follow the number of steps
# What one click adds to a number; 0.05 otherwise.
STEPS_OF = {"muon_lr": 0.001, "adamw_lr": 0.0001, "ema_decay": 0.001, "weight_decay": 0.01, "save_every_s": 10.0}
BADGES = {
    "starting": ("blue", ":material/hourglass_top:"),
    "running": ("blue", ":material/play_arrow:"),
    "finished": ("green", ":material/check:"),
    "stopped": ("gray", ":material/pause:"),
    "failed": ("red", ":material/error:"),
    "died": ("orange", ":material/power_off:"),
}


@dataclass(frozen=True)
class Data:
    """Where a new run's images come from.

    Attributes:
        data: As `TrainConfig.data`; for dropped pictures the folder in which they wait.
        stem: What default names begin with.
        found: The files; None for the demo data.
        dropped: Where they were dropped.
    """

    data: str
    stem: str
    found: "Found | None" = None
    dropped: Dropped | None = None


def main() -> None:
    ui.setup_without_model("Train")
    st.title("Train")
    state = st.session_state
    found = runs.list_runs(ui.checkpoints_folder())
    active = [run for run in found if run.is_active]
    if state.task not in TASKS:
        state.task = "runs" if active else "new"
    titles = TASKS | {"runs": f"Runs ({len(found)})"}
    task = ui.choose(
        "task",
        st.segmented_control,
        "Task",
        list(TASKS),
        format_func=lambda task: titles[task],
        required=True,
        label_visibility="collapsed",
    )
    if task == "new":
        new_training(active)
    elif not found:
        st.info("There are no runs yet. Start one under **New training**.", icon=":material/info:")
    elif task == "runs":
        one_run(found)
    else:
        compare(found)
    ui.write_link()


# -------------------------------------------------------------------------------------------------------- a new training


def new_training(active: list[runs.Run]) -> None:
    for run in active:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(f"{run.name} is {run.status}", icon=BADGES[run.status][1], color="blue")
            st.button("Watch it", key=f"train_watch_{run.name}", on_click=show, args=(run.name,), type="tertiary")
    with st.container(key="train_wide_form"):
        left, right = st.columns([5, 6], gap="large")
    with left:
        data = choose_data()
        values = choose_model_and_budget()
        with st.expander("Advanced", icon=":material/tune:"):
            for heading, names in ADVANCED.items():
                st.markdown(f"**{heading}**")
                with st.container(horizontal=True):
                    values |= {name: choose_field(name) for name in names}
    for name in AUTOMATIC:
        if values[name] is None:
            most = getattr(STANDARD, name)
            values[name] = most if values["minutes"] else min(most, max(1, values["steps"] // 15))
    with right:
        try:
            config = TrainConfig(**values, data=data.data if data else "demo")
            _ = config.model_config  # refuses what cannot be built
        except ValueError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return
        is_readable = data is not None and show_preview(data, config)
    with left:
        choose_name_and_start(config, data if is_readable else None, active)
    with right:
        show_plan(config)


def choose_data() -> Data | None:
    """None, and a sentence on the page, where there is nothing to train on yet."""
    state = st.session_state
    state.setdefault("train_kind", "folder")
    kind = st.segmented_control(
        "Images",
        list(KINDS),
        format_func=lambda kind: KINDS[kind],
        required=True,
        key="train_kind",
        persist_state="session",
    )
    if kind == "demo":
        st.caption(
            "Fashion-MNIST garments, composed anew for every step: squares, or rails where the size is not square."
        )
        return Data("demo", "demo")
    return choose_folder() if kind == "folder" else choose_dropped()


def choose_folder() -> Data | None:
    if st.get_option("server.address") not in LOCAL:
        st.info(
            "This app can be reached from other machines, so that no folder can be typed: drop the pictures instead."
        )
        return None
    text = st.text_input(
        "Folder, file or pattern",
        key="train_folder",
        persist_state="session",
        placeholder="/home/me/photographs",
        help="A folder is searched with its subfolders. One file: a .npy stack (T, H, W) or a TIFF of many pages. A "
        f"pattern: photographs/**/*.png. Read: {', '.join(suffix.lstrip('.') for suffix in SUFFIXES)}.",
    ).strip()
    if not text:
        st.caption(
            "Type a folder to see what the model will see. Files stay where they are; nothing leaves this machine."
        )
        return None
    if "\0" in text or len(text) > 4000:
        st.error("The folder must be a path of this machine, and this is none.")
        return None
    path = Path(text).expanduser().absolute()
    if path == Path(path.anchor):
        st.error("The folder must be one of pictures, and this is the whole disk; type one of its subfolders.")
        return None
    try:
        found = look(str(path))
    except (OSError, ValueError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        st.error(escape_markdown(message), icon=":material/folder_off:")
        return None
    name = path.stem if path.is_file() else Path(text.split("*")[0]).expanduser().absolute().name
    return Data(str(path), name or "pictures", found)


def choose_dropped() -> Data | None:
    state = st.session_state
    state.setdefault("train_round", 0)
    files = st.file_uploader(
        f"Pictures, up to 20 MB each, or a ZIP of them, up to {MAX_ZIP_MB} MB",
        type=[*(suffix.lstrip(".") for suffix in SUFFIXES), "zip"],
        accept_multiple_files=True,
        max_upload_size=MAX_ZIP_MB,
        key=f"train_files_{state.train_round}",
        help="They are copied into the run's folder. A ZIP may hold folders; hidden files in it are passed over.",
    )
    kept: Dropped | None = state.get("train_dropped")
    if files:
        bar = st.progress(0.0, "Reading…")

        def progress(number: int, total: int) -> None:
            bar.progress(number / total, f"Reading… {number} of {total}")

        try:
            kept = kept or dropped.begin(ui.checkpoints_folder())
            state.train_dropped = kept
            dropped.add(
                kept,
                [(file.name, file.getvalue()) for file in files],
                progress,
            )
        except OSError as error:
            st.error(f"The pictures cannot be kept: {escape_markdown(error.strerror or 'the disk failed')}.")
            return None
        state.train_round += 1  # a fresh widget: what has been kept is not read a second time
        st.rerun()
    if kept is None:
        return None
    if kept.problems:
        with st.expander(f"Left out: {len(kept.problems)}", icon=":material/broken_image:", expanded=True):
            st.markdown("  \n".join(escape_markdown(problem) for problem in kept.problems[:20]))
            if len(kept.problems) > 20:
                st.caption(f"and {len(kept.problems) - 20} more")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{kept.num_images}** pictures dropped")
        st.button("Forget them", key="train_forget", on_click=forget, type="tertiary", icon=":material/delete:")
    if not kept.num_images:
        return None
    try:
        found = look(str(kept.folder))
    except OSError:
        st.error("The dropped pictures are gone; drop them again.")
        return None
    return Data(str(kept.folder), "pictures", found, kept)


def forget() -> None:
    dropped.forget(st.session_state.pop("train_dropped"))


def choose_model_and_budget() -> dict[str, Any]:
    """Fields of `TrainConfig`."""
    state = st.session_state
    with st.container(horizontal=True, vertical_alignment="bottom"):
        preset = select(
            "preset", "Preset", list(PRESETS), 130, "Size of the model; see the page Models for their figures."
        )
        patch_size = select(
            "patch_size",
            "Patch",
            list(PATCHES),
            150,
            "Side of a patch in pixels. Smaller patches: more tokens, finer attention, more time and memory.",
            lambda side: "one token" if side is None else f"{side} pixels",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        height = number("height", "Height", 201, 8, 4096, 110)
        is_any_width = state.get("train_any_width", False)
        label = "Widest" if is_any_width else "Width"
        width = number("max_width" if is_any_width else "width", label, 1280 if is_any_width else 201, 8, 8192, 110)
        st.checkbox(
            "Any width",
            key="train_any_width",
            persist_state="session",
            help="Pictures are scaled to the height and keep their proportions; batches hold pictures of like widths.",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        state.setdefault("train_budget", "Steps")
        budget = st.selectbox(
            "Budget",
            ["Steps", "Minutes"],
            key="train_budget",
            persist_state="session",
            width=110,
            help="Minutes: the pace is measured at the start, and turned into a number of steps.",
        )
        if budget == "Steps":
            steps, minutes = number("steps", "Steps", STANDARD.steps, 1, 10**7, 120), None
        else:
            steps, minutes = STANDARD.steps, float(number("minutes", "Minutes", 10, 1, 10**5, 120))
        batch_size = number("batch_size", "Images a step", STANDARD.batch_size, 1, 4096, 120)
    return {
        "preset": preset,
        "patch_size": patch_size,
        "input_size": (height, None if is_any_width else width),
        "max_width": width if is_any_width else STANDARD.max_width,
        "steps": steps,
        "minutes": minutes,
        "batch_size": batch_size,
    }


def select(name: str, label: str, options: list, width: int, help: str, format_func: Any = str) -> Any:
    st.session_state.setdefault(f"train_{name}", getattr(STANDARD, name))
    return st.selectbox(
        label,
        options,
        format_func=format_func,
        key=f"train_{name}",
        persist_state="session",
        width=width,
        help=help,
    )


def number(name: str, label: str, start: int, low: int, high: int, width: int) -> int:
    st.session_state.setdefault(f"train_{name}", start)
    value = st.number_input(label, low, high, step=1, key=f"train_{name}", persist_state="session", width=width)
    return start if value is None else int(value)


def choose_field(name: str) -> Any:
    """A widget for one field of `TrainConfig`, by its type; texts are those of the command line."""
    kind, default = get_type_hints(TrainConfig)[name], getattr(STANDARD, name)
    settings: dict[str, Any] = {
        "key": f"train_{name}",
        "persist_state": "session",
        "help": help_texts()[name],
    }
    label = LABELS.get(name, name.replace("_", " ").capitalize())
    options = get_args(kind) if get_origin(kind) is Literal else ()
    is_open = default is None or name in AUTOMATIC
    if not is_open:
        st.session_state.setdefault(f"train_{name}", default)
    if isinstance(default, bool):
        return st.checkbox(label, **settings)
    if options:
        return st.selectbox(label, options, width=150, **settings)
    is_float = kind is float or float in get_args(kind)
    if is_open:
        value = st.number_input(
            label,
            min_value=0.5 if is_float else 1,
            value=None,
            step=0.5 if is_float else 1,
            placeholder="auto" if name in AUTOMATIC else "preset's" if name != "threads" else "auto",
            width=150,
            **settings,
        )
    elif is_float:
        value = st.number_input(label, 0.0, None, step=STEPS_OF.get(name, 0.05), format="%g", width=150, **settings)
    else:
        value = st.number_input(label, 0, None, step=1, width=150, **settings)
    return default if value is None and not is_open else value


@st.cache_data(max_entries=1, show_spinner=False)
def help_texts() -> dict[str, str]:
    """{field of `TrainConfig`: the text below it}."""
    body = ast.parse(inspect.getsource(TrainConfig)).body[0].body  # type: ignore[attr-defined]
    return {
        before.target.id: " ".join(after.value.value.split())
        for before, after in zip(body, body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


@st.cache_data(max_entries=8, ttl=60, show_spinner="Looking for pictures…")
def look(data: str) -> "Found":
    from tae import preview

    return preview.look(data)


@st.cache_data(max_entries=16, show_spinner="Reading…")
def read_preview(seen: tuple, found: "Found | None", is_whole: bool, _config: TrainConfig) -> "Preview":
    from tae import preview

    return preview.read_all(_config) if is_whole else preview.read_some(_config)


def show_preview(data: Data, config: TrainConfig) -> bool:
    """Eight training images as the model will see them; whether there is enough to train on."""
    st.markdown("**What the model will see**")
    is_whole = data.found is None or data.found.is_small
    seen = (config.data, config.input_size, config.max_width, config.seed, config.max_unreadable)
    seen += (config.flip, config.shift, config.zoom, config.contrast)
    try:
        shown = read_preview(seen, data.found, is_whole, config)
    except (OSError, ValueError) as error:
        message = str(error).replace(data.data, "the dropped pictures" if data.dropped else data.data)
        st.error(escape_markdown(message), icon=":material/broken_image:")
        return False
    widest = max(image.shape[1] for image in shown.images)
    scale = min(100 / config.input_size[0], 450 / widest)  # of all alike, so that their sizes can be compared
    with st.container(horizontal=True, gap="small", key="train_preview"):
        for image, name in zip(shown.images, shown.names, strict=True):
            source = in_page(image, max(1, 220 // max(image.shape)))
            st.image(source, width=max(16, round(scale * image.shape[1])), alt=plain_text(name))
    words = []
    if data.found is not None:
        words.append(f"{data.found.num_files:,} files, {data.found.num_bytes / 1e6:,.1f} MB")
        if shown.num_images is None:
            words.append(
                f"{len(shown.images)} of them shown; about one in ten is held out; all are read when the run starts, and "
                "those that cannot be are skipped"
            )
        else:
            words.append(f"{shown.num_images:,} images to train on, {shown.num_held_out:,} held out")
    else:
        words.append("composed without end, none seen twice; others are held out")
    words.append(f"fitted to {size_in_words(config.input_size)} in grey")
    if data.found is not None and any((config.flip, config.shift, config.zoom, config.contrast)):
        words.append("changed a little at every look (Advanced: augmentation)")
    st.caption("; ".join(words) + ".")
    if shown.skipped:
        with st.expander(f"Left out, since they cannot be read: {len(shown.skipped)}", icon=":material/warning:"):
            st.markdown("  \n".join(escape_markdown(f"{name}: {reason}") for name, reason in shown.skipped[:20]))
    return True


# --------------------------------------------------------------------------------------------------- what it will take


@st.cache_data(max_entries=64, show_spinner="Counting…")
def make_plan(
    model_config: ModelConfig, batch_size: int, accumulate: int, average: bool, place: tuple[Any, str]
) -> Any:
    """`tae.plan.plan`, with precision and device as asked for; also what these come to."""
    from tae.distributed import pick_device, pick_precision
    from tae.plan import plan

    device = pick_device(place[1])
    precision: Any = pick_precision(place[0], device)
    made = plan(model_config, batch_size, precision, accumulate, device=device.type, average=average)
    return made, precision, device.type


def show_plan(config: TrainConfig) -> None:
    """Memory by kind beside the machine's, operations, and the time once it is asked for."""
    from tae.distributed import memory_bytes
    from tae.plan import HEADROOM, KINDS, WORDS, largest_batch

    st.markdown("**What it will take**")
    model_config, average = config.model_config, bool(config.ema_decay)
    try:
        plan, precision, device = make_plan(
            model_config, config.batch_size, config.accumulate, average, (config.precision, config.device)
        )
    except (ValueError, RuntimeError) as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    besides = PYTORCH_BYTES if device == "cpu" else 0
    needed, memory = plan.peak + besides, memory_bytes(device)
    owner = "the GPU" if device == "cuda" else "this machine"
    where = f"train_pace_{hash((model_config, config.batch_size, config.accumulate, precision, device))}"
    pace = st.session_state.get(where)
    total = f"{config.minutes:g} min" if config.minutes else "–"
    if pace and not config.minutes:
        total = clock(pace.seconds_per_step * config.steps)
    with st.container(horizontal=True, key="train_take"):
        help = f"Peak of a step, of {in_bytes(memory)} that {owner} has." if memory else "Peak of a step."
        st.metric("Memory", in_bytes(needed), width=100, help=help)
        st.metric("Parameters", f"{plan.parameters / 1e6:,.1f} M", width=105)
        help = "N of an image; of the widest one where any width is taken."
        st.metric("Tokens", f"{plan.num_tokens:,}", width=85, help=help)
        help = "Of the whole training; press the button below to have it estimated."
        st.metric("Time", total, width=100, help=help)
    kinds = {WORDS[kind]: plan.at_peak[kind] for kind in KINDS if plan.at_peak[kind]}
    if device == "cpu":
        kinds["Python and PyTorch"] = int(PYTORCH_BYTES)
    st.plotly_chart(
        plots.plot_memory(kinds, memory, owner),
        key="train_memory",
        config={"displayModeBar": False},
        alt="Memory at the peak of a step by kind, beside the memory of the device",
    )
    if memory and needed > HEADROOM * memory:
        room = max(1.0, memory - besides / HEADROOM)
        most = largest_batch(model_config, room, precision, config.accumulate, device=device, average=average)  # type: ignore[arg-type]
        remedy = (
            f"at most {most} images a step fit: lower **Images a step**, raise **Accumulation**"
            if most
            else "not even one image fits: choose a smaller preset or larger patches"
        )
        remedy += "" if config.use_gradient_checkpointing else ", or switch **Gradient checkpointing** on (Advanced)"
        st.warning(
            f"**This will not fit.** It takes {in_bytes(needed)}, and {owner} has {in_bytes(memory)}; {remedy}.",
            icon=":material/memory_alt:",
        )
    words = [
        f"{config.batch_size * plan.train_flops / 1e9 + plan.optimizer_flops / 1e9:,.0f} GFLOP a step",
        f"{precision} on {'the GPU' if device == 'cuda' else 'the CPU'}",
    ]
    words.append(f"up to {in_bytes(disk_bytes(config, plan))} on the disk, with {config.snapshots} snapshots")
    if pace:
        images_per_s = config.batch_size / pace.seconds_per_step
        rate = f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.2g}"
        words.append(f"about {pace.seconds_per_step:.2g} s a step, {rate} images/s ({pace.how})")
    with st.container(horizontal=True, vertical_alignment="center"):
        if not pace and st.button(
            "Estimate the time",
            key="train_estimate",
            icon=":material/timer:",
            help="Times a small real piece of a step on this machine, some seconds. What else runs slows it down.",
        ):
            try:
                st.session_state[where] = ui.training_pace(
                    model_config, config.batch_size, precision, config.accumulate, device
                )
            except (ValueError, RuntimeError) as error:
                st.error(escape_markdown(str(error)))
            else:
                st.rerun()
        st.caption("; ".join(words) + ".")


def disk_bytes(config: TrainConfig, plan: Any) -> int:
    """What the run's files take at most: the checkpoint and snapshots, and as many states as are kept and being written."""
    from tae.trainstate import KEPT

    copies = 1 + (config.snapshots if config.minutes else len(snapshot_steps(config.steps, config.snapshots)))
    state = plan.totals["weights"] + plan.totals["optimizer"] + plan.totals["average"]
    return copies * 4 * plan.parameters + (KEPT + 1) * state


def in_bytes(count: float) -> str:
    if count < 1e8:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def clock(seconds: float) -> str:
    """A duration in words."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def choose_name_and_start(config: TrainConfig, data: Data | None, active: list[runs.Run]) -> None:
    """The run's name, its command, and the button."""
    state = st.session_state
    patch = "one-token" if config.patch_size is None else f"p{config.patch_size}"
    stem = data.stem if data else "pictures"
    automatic = safe_name(f"{safe_name(stem)[:30]}_{config.preset}_{size_in_words(config.input_size)}_{patch}")
    automatic = runs.free_name(ui.checkpoints_folder(), automatic)
    typed = st.text_input(
        "Name",
        key="train_name",
        persist_state="session",
        placeholder=automatic,
        max_chars=60,
        help="Of the run and of its checkpoint. Nothing that is there already is ever replaced.",
    ).strip()
    name = safe_name(typed) if typed else automatic
    if typed and runs.free_name(ui.checkpoints_folder(), name) != name:
        st.error(
            f"There is a run or a checkpoint named {escape_markdown(name)} already; "
            f"{escape_markdown(runs.free_name(ui.checkpoints_folder(), name))} is free.",
        )
        data = None
    elif typed and name != typed:
        st.caption(f"Its files will be called {escape_markdown(name)}.")
    out = from_root(ui.checkpoints_folder() / f"{name}.safetensors")
    if data is not None:
        images = str(from_root(runs.folder_of(ui.checkpoints_folder() / out.name) / "images"))
        title = plain_text(typed) if typed else None
        if data.dropped and not title:
            title = f"dropped pictures {config.preset} {size_in_words(config.input_size)}"
        config = replace(config, out=out, name=title, data=images if data.dropped else data.data)
    if active:
        st.caption("Another training is running: both will be slower, and their memory adds up.")
    if st.button(
        "Start training",
        key="train_start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=data is None,
        help=None if data else "First choose images that can be read.",
    ):
        assert data is not None
        try:
            run = runs.start(config, data.dropped.folder if data.dropped else None)
        except runs.RunError as error:
            st.error(escape_markdown(str(error)))
        except OSError as error:
            st.error(f"The training cannot be started: {escape_markdown(error.strerror or 'the disk failed')}.")
        else:
            if data.dropped:
                del state.train_dropped
            show(run.name)
            st.rerun()
    if data is not None:
        st.caption("The same from the command line, in the project's folder:")
        st.code(shlex.join(["python", "-m", "tae.train", *command_line(config)]), language=None, wrap_lines=True)


def from_root(path: Path) -> Path:
    """Relative to the project's folder, where it lies in it: what is written down then survives a move."""
    return path.relative_to(runs.ROOT) if path.is_relative_to(runs.ROOT) else path


def show(name: str) -> None:
    st.session_state.task, st.session_state.run = "runs", name


# --------------------------------------------------------------------------------------------------------------- one run


def one_run(found: list[runs.Run]) -> None:
    by_name = {run.name: run for run in found}
    name = ui.choose(
        "run",
        st.selectbox,
        "Run",
        list(by_name),
        format_func=lambda name: f"{plain_text(name)} · {by_name[name].status}",
    )
    run = by_name[name]
    if not run.is_active:
        run_actions(run)
    # Drawn anew by itself while a process works on it, and then only this part.
    with st.container(key="train_live"):
        st.fragment(watch, run_every=REFRESH_S if run.is_active else None, key="train_watch")(run)


def run_actions(run: runs.Run) -> None:
    """What can be done with a run that nothing works on."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.checkpoint.is_file() and st.button(
            "Open in the app",
            key="train_open",
            type="primary",
            icon=":material/compare:",
            help="Shows what its checkpoint makes of pictures.",
        ):
            st.session_state.checkpoint = run.checkpoint.name
            st.switch_page("app.py")
        if run.status != "finished" and run.config is not None:
            label = "Resume" if run.has_state else "Try again"
            if st.button(label, key="train_resume", icon=":material/play_arrow:"):
                try:
                    runs.resume(run)
                except (runs.RunError, OSError) as error:
                    st.error(escape_markdown(str(error) if isinstance(error, runs.RunError) else error.strerror or ""))
                else:
                    st.rerun()
        if runs.read_log(run.folder):
            st.download_button(
                "Log (CSV)",
                lambda: export.metrics_csv(runs.log_rows(run.folder)),
                f"{safe_name(run.name)}.csv",
                "text/csv",
                key="train_log",
                icon=":material/download:",
                on_click="ignore",
            )
        if st.button("Delete…", key="train_delete", icon=":material/delete:", type="tertiary"):
            delete_dialog(run)


@st.dialog("Delete this run?")
def delete_dialog(run: runs.Run) -> None:
    st.markdown(
        f"**{escape_markdown(run.name)}**: its log, curves, snapshots, pictures of reconstructions and what it needs to "
        f"resume go, {in_bytes(runs.size_bytes(run.folder))} in all."
    )
    if (run.folder / "images").is_dir():
        st.markdown("So do the pictures that were dropped for it.")
    with_checkpoint = run.checkpoint.is_file() and st.checkbox(
        "Delete its checkpoint, too", key="train_delete_checkpoint"
    )
    with st.container(horizontal=True):
        if st.button("Delete", key="train_delete_now", type="primary"):
            try:
                runs.delete(run, with_checkpoint)
            except (runs.RunError, OSError) as error:
                st.error(escape_markdown(str(error) if isinstance(error, runs.RunError) else error.strerror or ""))
            else:
                st.session_state.run = ""
                st.rerun()
        if st.button("Keep it", key="train_keep"):
            st.rerun()


def watch(run: runs.Run) -> None:
    """How a run goes, from its folder alone."""
    before = run.status
    run = runs.read_run(run.folder)
    if run.status != before:
        st.rerun()  # the whole page: its actions change, and the sidebar may have a new checkpoint
    colour, icon = BADGES.get(run.status, ("gray", None))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(run.status, icon=icon, color=colour)  # type: ignore[arg-type]
        if run.config is not None:
            st.caption(escape_markdown(in_words(run.config)))
        if run.is_active:
            stop_buttons(run)
    say_status(run)
    records = runs.read_log(run.folder)
    last = records[-1] if records else {}
    if run.is_active or run.steps:
        left = last.get("seconds_left")
        words = f"step {run.step:,} of {run.steps:,}" if run.steps else f"step {run.step:,}; measuring the pace"
        if run.status == "running" and is_number(left):
            words += f" · about {clock(left)} left"  # type: ignore[arg-type]
        st.progress(min(1.0, run.step / run.steps) if run.steps else 0.0, words)
    if records:
        show_figures(records)
        show_curves({"this run": run}, "Step")
    show_strips(run)
    if run.config is not None:
        with st.expander("What was asked for", icon=":material/tune:"):
            st.code(
                shlex.join(["python", "-m", "tae.train", *command_line(run.config)]), language=None, wrap_lines=True
            )


def stop_buttons(run: runs.Run) -> None:
    if not runs.stop_asked(run.folder):
        st.button(
            "Stop training",
            key="train_stop",
            icon=":material/stop:",
            help="After the current step: it saves, and can be resumed later.",
            on_click=runs.ask_to_stop,
            args=(run.folder,),
        )
        return
    st.badge("stopping after this step", icon=":material/hourglass_bottom:", color="gray")
    st.button(
        "End it now",
        key="train_end",
        type="tertiary",
        help="Where it takes too long to get to the next step.",
        on_click=runs.end_now,
        args=(run,),
    )


def say_status(run: runs.Run) -> None:
    message = escape_markdown(plain_text(run.message, 600)) if run.message else ""
    if run.status == "failed":
        st.error(f"**It failed.** {message}", icon=":material/error:")
    elif run.status == "died":
        st.warning(
            "**Its process was ended from outside**, by a restart, for lack of memory, or by somebody. "
            + (
                "Resume goes on from its last whole state." if run.has_state else "There is no state yet to go on from."
            ),
            icon=":material/power_off:",
        )
    elif run.status == "starting":
        st.info(f"Starting: PyTorch is loaded, then the images are read. {message}", icon=":material/hourglass_top:")


def in_words(config: TrainConfig) -> str:
    patch = "one token" if config.patch_size is None else f"patch {config.patch_size}"
    source = "demo garments" if config.data == "demo" else plain_text(Path(config.data).name)
    if source == "images":
        source = "dropped pictures"
    return (
        f"{config.preset} · {size_in_words(config.input_size)} · {patch} · {config.batch_size} images a step · {source}"
    )


def show_figures(records: list[dict]) -> None:
    last = records[-1]
    psnrs = [record["held_out_psnr"] for record in records if is_number(record.get("held_out_psnr"))]
    cells = st.columns(4)
    cells[0].metric("Loss", figure(last.get("loss"), "{:.5f}"), help="Mean squared error of the last batch.")
    cells[1].metric(
        "Held-out PSNR",
        figure(psnrs[-1] if psnrs else None, "{:.2f} dB"),
        help="Of images that are never trained on"
        + (f"; the best so far is {figure(max(psnrs), '{:.2f} dB')}." if psnrs else "."),
    )
    cells[2].metric("Images a second", figure(last.get("images_per_s"), "{:.1f}"))
    cells[3].metric("Learning rate", figure(last.get("lr"), "{:.2g}"), help="Of Muon.")
    reading, pace = last.get("loader_images_per_s"), last.get("images_per_s")
    words = (
        f"Gradient norm {figure(last.get('grad_norm'), '{:.3g}')}; reading alone could do {figure(reading, '{:,.0f}')} "
    )
    words += "images a second"
    if last["step"] >= 50 and is_number(reading) and is_number(pace) and 0 < reading < 1.2 * pace:  # type: ignore[operator]
        words += ", so reading holds the training back: raise **Reading threads** (Advanced)"
    st.caption(f"{words}.")


def figure(value: object, pattern: str) -> str:
    return pattern.format(value) if is_number(value) else "–"


def show_curves(shown: dict[str, runs.Run], axis: str) -> None:
    """Loss and held-out PSNR of runs, over each other."""
    loss, psnr = {}, {}
    for name, run in shown.items():
        records = runs.read_log(run.folder)
        batch_size = run.config.batch_size if run.config else 1
        x = runs.minutes(records, batch_size) if axis == "Minutes" else [record["step"] for record in records]
        for curves, field in ((loss, "loss"), (psnr, "held_out_psnr")):
            points = [
                (at, record[field]) for at, record in zip(x, records, strict=True) if is_number(record.get(field))
            ]
            curves[name] = tuple(np.array(points, float).reshape(-1, 2).T)
    with st.container(key="train_wide_curves"):
        left, right = st.columns(2)
    for place, curves, title, unit in ((left, psnr, "Held-out PSNR (dB)", " dB"), (right, loss, "Loss", "")):
        place.plotly_chart(
            plots.plot_curves(curves, axis, title, unit, log=title == "Loss"),
            key=f"train_curve_{title.split()[0]}",
            config={"displayModeBar": False},
            alt=f"{title} over {axis.lower()}s" if axis == "Step" else f"{title} over minutes",
        )


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def show_strips(run: runs.Run) -> None:
    """Held-out images above their reconstructions: the latest, and a slider through the earlier ones."""
    strips = {int(path.stem): path for path in runs.strips(run.folder)}
    if not strips:
        return
    state, chosen, newest = st.session_state, f"train_strip_{run.name}", max(strips)
    # It follows the training until somebody moves it, and again once it is moved to the end.
    step = state[chosen] if state.get(chosen) in strips else newest
    st.markdown("**Held-out images, and what it makes of them**")
    if len(strips) > 1:
        # A slider anew for each new strip: what the browser still says of the old one is no choice.
        key = f"{chosen}_{newest}"

        def keep() -> None:
            state[chosen] = None if state[key] == newest else state[key]

        step = st.select_slider(
            "After step", list(strips), step, key=key, format_func=lambda step: f"{step:,}", on_change=keep
        )
    try:
        pixels = np.asarray(Image.open(strips[step]))
    except OSError:
        st.caption("This picture is being replaced.")
        return
    height, width = pixels.shape
    source = in_page(pixels, max(1, min(1150 // width, 460 // height)))
    st.image(source, alt=f"Held-out images above their reconstructions after step {step}")
    st.caption(f"After step {step:,}: each image above its reconstruction.")


def in_page(pixels: np.ndarray, factor: int) -> str:
    """A picture as an address that holds it: one that the browser has to fetch may be gone before it does.

    Each pixel becomes a square of `factor` pixels a side, so that the browser's smoothing adds nothing.
    """
    enlarged = np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1)
    return f"data:image/png;base64,{base64.b64encode(encode_png(enlarged)).decode()}"


# --------------------------------------------------------------------------------------------------------------- compare


def compare(found: list[runs.Run]) -> None:
    by_name = {run.name: run for run in found if run.config is not None}
    st.session_state.setdefault("train_compared", list(by_name)[:4])
    st.session_state.train_compared = [name for name in st.session_state.train_compared if name in by_name]
    chosen = st.multiselect(
        "Runs", list(by_name), format_func=plain_text, key="train_compared", persist_state="session", max_selections=12
    )
    axis = st.segmented_control(
        "Against", ["Step", "Minutes"], default="Step", required=True, key="train_axis", label_visibility="collapsed"
    )
    if not chosen:
        st.info("Choose the runs to lay over each other.", icon=":material/info:")
        return
    shown = {name: by_name[name] for name in chosen}
    show_curves(shown, axis or "Step")
    if axis == "Minutes":
        st.caption("Minutes of training steps, from the pace; pauses and looks at the held-out images are left out.")
    st.dataframe([summary(run) for run in shown.values()], hide_index=True, key="train_table")
    rows = runs.config_differences([run.config for run in shown.values() if run.config])
    if rows:
        st.markdown("**Where their settings differ**")
        table = [{"Setting": name, **dict(zip(shown, values, strict=True))} for name, values in rows.items()]
        st.dataframe(table, hide_index=True, key="train_differences")
    elif len(shown) > 1:
        st.caption("Their settings are the same.")


def summary(run: runs.Run) -> dict[str, object]:
    records = runs.read_log(run.folder)
    last = records[-1] if records else {}
    psnrs = [record["held_out_psnr"] for record in records if is_number(record.get("held_out_psnr"))]
    times = runs.minutes(records, run.config.batch_size if run.config else 1)
    return {
        "Run": plain_text(run.name),
        "Status": run.status,
        "Step": run.step,
        "of": run.steps or None,
        "Loss": last["loss"] if is_number(last.get("loss")) else None,
        "Held-out PSNR (dB)": round(psnrs[-1], 2) if psnrs else None,
        "Best (dB)": round(max(psnrs), 2) if psnrs else None,
        "Images/s": round(last["images_per_s"], 1) if is_number(last.get("images_per_s")) else None,
        "Minutes": round(times[-1], 1) if times else None,
    }


main()
