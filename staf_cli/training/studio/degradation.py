"""Flaws of real cameras and file formats: blur, loss of detail, noise, JPEG blocks, colour."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from staf_cli.core.devices import send

BLURRED, SHRUNK, NOISY, BLOCKY, COLOURED, GREY = 0.25, 0.5, 0.4, 0.35, 0.8, 0.05  # shares
SHRINK = (1.3, 1.7, 2.2, 3.0, 4.0, 5.0)  # factors of the loss of detail
BLOCK = 8  # px along the side of a JPEG block
KERNEL = 9  # px along the side of a blur kernel
# RGB to brightness and two colours, as in JPEG.
MIX = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


def degrade(
    images: Tensor,
    generator: torch.Generator,
    group: Tensor | None = None,
    *,
    shrink: Sequence[float] = SHRINK,
) -> Tensor:
    """Make images look as if a real camera had taken them.

    Images of the same group are treated alike, as the frames of one video, except for the noise.

    Args:
        images: (B, 3, H, W) sRGB in [0, 1]; H and W are multiples of 8.
        generator: On the CPU.
        group: (B,) int64, the group of each image; None: each on its own.
        shrink: SHRUNK of the groups lose as much detail as images that are smaller by one of
            these factors.

    Returns:
        (B, 3, H, W) sRGB in [0, 1].
    """
    if group is None:
        group = torch.arange(len(images))
    _, member = torch.unique(group.cpu(), return_inverse=True)
    groups = int(member.max()) + 1
    noise = torch.Generator(images.device).manual_seed(
        int(torch.randint(2**62, (), generator=generator))
    )
    amount = _share(groups, NOISY, generator)[member] * 0.06
    quality = _share(groups, BLOCKY, generator)[member] * 0.12
    chosen = torch.randint(len(shrink), (groups,), generator=generator)
    chosen[torch.rand(groups, generator=generator) >= SHRUNK] = -1
    chosen = chosen[member]
    images = _blur(images, member, groups, generator)
    out = torch.empty_like(images)
    for step, factor in ((-1, 1.0), *enumerate(shrink)):
        mine = (chosen == step).nonzero()[:, 0]
        if len(mine) == 0:
            continue
        place = send(mine, images.device)
        some, on = images[place], images.device
        if factor > 1:
            small = [max(BLOCK, round(n / factor / BLOCK) * BLOCK) for n in images.shape[2:]]
            some = interpolate(some, small, mode="bilinear", antialias=True)
        noisy = (amount[mine] > 0).nonzero()[:, 0]
        if len(noisy):
            pick = send(noisy, on)
            grain = torch.randn(some[pick].shape, generator=noise, device=on)
            some[pick] += grain * send(amount[mine][noisy], on)[:, None, None, None]
        blocky = (quality[mine] > 0).nonzero()[:, 0]
        if len(blocky):
            pick = send(blocky, on)
            some[pick] = _blocks(some[pick], send(quality[mine][blocky], on))
        if factor > 1:
            some = interpolate(some, images.shape[2:], mode="bilinear", align_corners=False)
        out[place] = some
    return _colour(out, member, groups, generator).clamp_(0, 1)


def _share(groups: int, share: float, generator: torch.Generator) -> Tensor:
    """Draw for each group a number in (0, 1] with this probability, or else 0: (groups,)."""
    chosen = torch.rand(groups, generator=generator) < share
    return chosen * torch.rand(groups, generator=generator).clamp(min=0.05)


def _blur(images: Tensor, member: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Blur BLURRED of the groups: out of focus, or moved while the shutter was open."""
    chosen = torch.rand(groups, generator=generator) < BLURRED
    angle = math.pi * torch.rand(groups, generator=generator)
    length = 0.4 + 2.4 * torch.rand(groups, generator=generator)
    width = torch.where(torch.rand(groups, generator=generator) < 0.5, length, 0.35)
    mine = chosen[member].nonzero()[:, 0]
    if len(mine) == 0:
        return images
    steps = torch.arange(KERNEL) - KERNEL // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = (c * x + s * y) / length[:, None, None], (c * y - s * x) / width[:, None, None]
    kernels = torch.exp(-0.5 * (along**2 + across**2))
    kernels = (kernels / kernels.sum((1, 2), keepdim=True))[member[mine]]
    pick = send(mine, images.device)
    some = images[pick]
    weight = send(kernels, images.device).repeat_interleave(3, 0)[:, None]
    flat = torch.nn.functional.pad(some, (KERNEL // 2,) * 4, mode="replicate")
    flat = flat.reshape(1, -1, *flat.shape[2:])
    images = images.clone()
    images[pick] = conv2d(flat, weight, groups=len(weight)).view_as(some)
    return images


def _blocks(images: Tensor, step: Tensor) -> Tensor:
    """Round cosine coefficients of 8 x 8 blocks to steps that grow with frequency, as JPEG does.

    Brightness keeps finer steps than colour.

    Args:
        images: (B, 3, H, W) sRGB in [0, 1].
        step: (B,) size of the steps, in [0, 1].

    Returns:
        (B, 3, H, W) sRGB.
    """
    count, _, height, width = images.shape
    mix, unmix = (send(matrix, images.device) for matrix in (MIX, torch.linalg.inv(MIX)))
    k = torch.arange(BLOCK, device=images.device, dtype=images.dtype)
    basis = math.sqrt(2 / BLOCK) * torch.cos(math.pi / BLOCK * k[:, None] * (k + 0.5))
    basis[0] /= math.sqrt(2)
    steps = 0.25 + (k[:, None] + k) / 6  # (8, 8)
    per_plane = step[:, None] * send(torch.tensor([1.0, 2.0, 2.0]), images.device)
    size = (per_plane[:, :, None, None, None, None] * steps[:, None, :]).clamp(min=1e-4)
    planes = torch.einsum("ij,bjhw->bihw", mix, images)
    tiles = planes.view(count, 3, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    waves = torch.einsum("ki,bchiwj,lj->bchkwl", basis, tiles, basis)
    waves = (waves / size).round_() * size
    tiles = torch.einsum("ki,bchkwl,lj->bchiwj", basis, waves, basis)
    planes = tiles.reshape(count, 3, height, width)
    return torch.einsum("ij,bjhw->bihw", unmix, planes)


def _colour(images: Tensor, member: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Change gamma, white balance, saturation, contrast, brightness of COLOURED of the groups."""
    changed = (torch.rand(groups, 1, generator=generator) < COLOURED).float()

    def around(sigma: float, columns: int = 1) -> Tensor:
        drawn = torch.randn(groups, columns, generator=generator).clamp_(-2.5, 2.5)
        return send((sigma * changed * drawn)[member], images.device)[:, :, None, None]

    gamma, gain = around(0.2).exp(), around(0.07, 3).exp()
    contrast, saturation = around(0.2).exp(), around(0.25).exp()
    brightness = around(0.07)
    grey = send((torch.rand(groups, generator=generator) < GREY)[member], images.device)
    saturation = torch.where(grey[:, None, None, None], torch.zeros_like(saturation), saturation)
    images = images.clamp_(1e-4, 1).pow_(gamma).mul_(gain)
    light = images.mean(1, keepdim=True)
    images = light + (images - light) * saturation
    middle = images.mean((1, 2, 3), keepdim=True)
    return (images - middle) * contrast + middle + brightness
