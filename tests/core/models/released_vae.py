"""The released VidRD's VAE as a reference: names and shapes of its tensors, and its decoder in plain functions."""

import math

import torch
import torch.nn.functional as F


def layout(widths=(128, 256, 512, 512), layers=2, depth=3, prefix=""):
    """Its names and the shapes of their tensors."""
    shapes = {}

    def layer(name, *shape):
        shapes[f"{prefix}{name}.weight"], shapes[f"{prefix}{name}.bias"] = shape, shape[:1]

    def resnet(name, i, o):
        layer(f"{name}.norm1", i)
        layer(f"{name}.conv1", o, i, 3, 3)
        layer(f"{name}.norm2", o)
        layer(f"{name}.conv2", o, o, 3, 3)
        if i != o:
            layer(f"{name}.conv_shortcut", o, i, 1, 1)

    def middle(name, width):
        for j in range(2):
            resnet(f"{name}.resnets.{j}", width, width)
        layer(f"{name}.attentions.0.group_norm", width)
        for part in ("query", "key", "value", "proj_attn"):
            layer(f"{name}.attentions.0.{part}", width, width)

    last = len(widths) - 1
    layer("encoder.conv_in", widths[0], 3, 3, 3)
    for i, width in enumerate(widths):
        for j in range(layers):
            resnet(f"encoder.down_blocks.{i}.resnets.{j}", widths[i - 1] if i and not j else width, width)
        if i < last:
            layer(f"encoder.down_blocks.{i}.downsamplers.0.conv", width, width, 3, 3)
    middle("encoder.mid_block", widths[-1])
    layer("encoder.conv_norm_out", widths[-1])
    layer("encoder.conv_out", 8, widths[-1], 3, 3)
    layer("decoder.conv_in", widths[-1], 4, 3, 3)
    up = widths[::-1]
    for i, width in enumerate(up):
        for j in range(layers + 1):
            resnet(f"decoder.up_blocks.{i}.resnets.{j}", up[i - 1] if i and not j else width, width)
            for k in range(depth):
                layer(f"decoder.up_blocks.{i}.temp_convs.{j}.convs.{4 * k}", width)
                layer(f"decoder.up_blocks.{i}.temp_convs.{j}.convs.{4 * k + 3}", width, width, 3, 1, 1)
        if i < last:
            layer(f"decoder.up_blocks.{i}.upsamplers.0.conv", width, width, 3, 3)
    middle("decoder.mid_block", widths[-1])
    layer("decoder.conv_norm_out", widths[0])
    layer("decoder.conv_out", 3, widths[0], 3, 3)
    layer("quant_conv", 8, 8, 1, 1)
    layer("post_quant_conv", 4, 4, 1, 1)
    return shapes


def random_weights(shapes, seed=0):
    """Tensors of these shapes, none of them near zero or one alone."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        is_norm = len(shape) == 1 and name.endswith("weight")
        weights[name] = 1 + 0.2 * noise if is_norm else 0.7 * noise / math.prod(shape[1:]) ** 0.5
    return weights


def decode(weights, z, groups, blocks, layers=2, depth=3):
    """Latents [F, 4, h, w], not normalised, of one clip -> frames [F, 3, H, W]."""

    def of(name):
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def norm(x, name, eps=1e-6):
        return F.group_norm(x, groups, *of(name), eps=eps)

    def conv(x, name, padding=1):
        return F.conv2d(x, *of(name), padding=padding)

    def resnet(x, name):
        h = conv(F.silu(norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = conv(F.silu(norm(h, f"{name}.norm2")), f"{name}.conv2")
        return h + (conv(x, f"{name}.conv_shortcut", 0) if f"{name}.conv_shortcut.weight" in weights else x)

    def attention(x, name):
        h = norm(x, f"{name}.group_norm").flatten(2).transpose(1, 2)
        q, k, v = (F.linear(h, *of(f"{name}.{part}")) for part in ("query", "key", "value"))
        h = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v
        return x + F.linear(h, *of(f"{name}.proj_attn")).transpose(1, 2).reshape(x.shape)

    def temp_conv(x, name):
        if len(x) == 1:  # an image
            return x
        h = x.transpose(0, 1)[None]  # one video, [1, C, F, H, W]: each norm takes its statistics over all frames
        for k in range(depth):
            h = F.silu(norm(h, f"{name}.convs.{4 * k}", eps=1e-5))
            h = F.conv3d(h, *of(f"{name}.convs.{4 * k + 3}"), padding=(1, 0, 0))
        return x + h[0].transpose(0, 1)

    x = conv(conv(z, "post_quant_conv", 0), "decoder.conv_in")
    x = resnet(x, "decoder.mid_block.resnets.0")
    x = attention(x, "decoder.mid_block.attentions.0")
    x = resnet(x, "decoder.mid_block.resnets.1")
    for i in range(blocks):
        for j in range(layers + 1):
            x = resnet(x, f"decoder.up_blocks.{i}.resnets.{j}")
            x = temp_conv(x, f"decoder.up_blocks.{i}.temp_convs.{j}")
        if i < blocks - 1:
            x = conv(F.interpolate(x, scale_factor=2.0), f"decoder.up_blocks.{i}.upsamplers.0.conv")
    return conv(F.silu(norm(x, "decoder.conv_norm_out")), "decoder.conv_out")
