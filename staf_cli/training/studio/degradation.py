"""What a real camera and its file format do to a picture: blur, noise, blocks, colour."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from staf_cli.core.devices import send

BLURRED, SHRUNK, NOISY, BLOCKY, COLOURED, GREY = 0.25, 0.5, 0.4, 0.35, 0.8, 0.05  # shares
SHRINK = (1.3, 1.7, 2.2, 3.0, 4.0, 5.0)
BLOCK = 8  # px along the side of a JPEG block
KERNEL = 9
# RGB to brightness and two colours, as in JPEG.
MIX = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


def degrade(
    images: Tensor,
    generator: torch.Generator,
    group: Tensor | None = None,
    *,
    shrink: Sequence[float] = SHRINK,
) -> Tensor:
    """Images (B, 3, H, W), sRGB in [0, 1], as a real camera might have kept them.

    Images of the same group (B,) int64 get the same treatment, as the frames of one video do,
    except for the noise. Each on its own where there is no group. SHRUNK of the groups lose
    detail, as much as if they had been `shrink` times smaller. Choices come from the generator,
    which is on the CPU; H and W must be multiples of 8.
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
    """(groups,) 0 for most, a number in (0, 1] for this share."""
    chosen = torch.rand(groups, generator=generator) < share
    return chosen * torch.rand(groups, generator=generator).clamp(min=0.05)


def _blur(images: Tensor, member: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Out of focus, or moved while the shutter was open, for BLURRED of the groups."""
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
    """Cosine coefficients of 8 x 8 blocks rounded to multiples that grow with frequency.

    step (B,) is the coarsest multiple's size in [0, 1]. Brightness is kept better than colour,
    as in JPEG.
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
    """Gamma, white balance, saturation, contrast and brightness for COLOURED of the groups."""
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
