"""How many dimensions: the variance of the test set along each principal direction."""

import streamlit as st

from tae.analysis import facts
from tae.analysis.latent import dimensions_for, effective_rank, participation_ratio
from tae.plots.latent import plot_spectrum
from tae.ui.latent import measure
from tae.ui.latent.measure import SpaceScene
from tae.ui.shell.guide import prose
from tae.ui.widgets.charts import chart
from tae.ui.widgets.downloads import download_table, export


def spectrum(scene: SpaceScene) -> None:
    pca = measure.layout(scene.active, scene.tests, "pca").pca
    dim = scene.config.latent_dim
    ratio, rank, most = (
        participation_ratio(pca.variances),
        effective_rank(pca.variances),
        dimensions_for(pca.variances, 0.95),
    )
    prose(
        f"The latent has **{dim}** numbers; its variance is spread as over **{ratio:.0f}** equal dimensions (the "
        f"[[participation ratio]]), and {most} [[principal components]] hold 95% of it. "
        + (
            "In most other directions the test images differ little."
            if ratio < dim / 4
            else "The test images differ in many of them."
        )
    )
    first, second, third = st.columns(3)
    first.metric(
        "Participation ratio",
        f"{ratio:.1f}",
        help="(sum of variances)² / sum of squared variances: k for k directions that vary alike.",
    )
    second.metric(
        "Effective rank",
        f"{rank:.1f}",
        help="The exponential of the entropy of the variances' shares (Roy & Vetterli 2007).",
    )
    third.metric("Directions for 95%", f"{most}", help="The fewest principal directions with 95% of the variance.")
    figure = plot_spectrum(pca.variances, ratio, pca.num_images)
    alt = "Share of the variance of each principal direction, and of all up to it"
    chart(figure, "latent_spectrum", alt, tools=True)
    st.caption(
        f"From {pca.num_images} test images: few images make these numbers too low. They count variance in the latent, not "
        "what the decoder makes of it: a direction of small variance can still matter in the image."
    )
    rows = [
        {"component": one + 1, "variance": float(value), "share": float(value / pca.variances.sum())}
        for one, value in enumerate(pca.variances)
    ]
    with export():
        download_table("Spectrum (CSV)", rows, facts.file_stem("latent_spectrum", scene.active.warning))
