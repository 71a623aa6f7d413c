"""A model at work on an image: its attention, and what happens without it.

- attention: entropy, distance, sinks, rollout of attention maps
- facts: thresholds and facts, each in one wording
- numbers: a sign and a share, as all texts spell them
- maps: which map is meant, the map itself, and the colour range that layers share
- features: how alike patches are after each layer
- heads: layers and heads in numbers
- kinds: what every head does on average, its name, and which are alike
- cka: how alike all states are
- agreement: two maps compared
- latent: the latent space: maps, neighbours, ways between, directions
- windows: strips wider than the model, window by window
- evaluate: a checkpoint's held-out figures
- yardsticks: what simple codes reach on the same images
- causal: interventions: attention replaced, heads knocked out, patches covered, states of another image put in
- lens: what each layer's state looks like as an image

Arguments everywhere: model, the autoencoder in evaluation mode; images (B, 1, H, W), or image (1, 1, H, W), in
[0, 1]; part, "encoder" or "decoder"; widths (B,) in pixels where images are padded on the right, else None; progress,
called with the share that is done, and an error that it raises stops the work. Arguments that do not fit raise ValueError.
"""
