"""Formats of weights: which one a file has, and its tensors under this package's names.

A format is one `Naming` object (`naming.py`). Those of UNets are in `unet_keys.py`, of VAEs in `vae_keys.py`, of text
encoders in `text.py`; `detect.py` has all of them in `NAMINGS`, from which loading, `vidrd info`, `vidrd convert` and
the messages are made. To add one, write one more object and put it in its file's `NAMINGS`.
"""
