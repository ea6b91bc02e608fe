"""The networks of a VidRD (UNet3D, temporal VAE, text encoders), and the formats of their weights."""
