"""The network itself: nothing here knows files, training or the app.

- config: ModelConfig, the presets, their limits
- layers: patches, positions, attention, blocks
- autoencoder: encoder, decoder, TransformerAutoencoder, create_autoencoder
- counts: parameters, memory, FLOPs, counted without allocating
- transfer: what a new model takes over from a trained one
- metrics: PSNR, SSIM, foreground MSE, seams
- device: the device, and the types it computes in
"""
