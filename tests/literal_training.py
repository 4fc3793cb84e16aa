"""Training written down plainly: one step after the other, random numbers drawn in the midst of the work that needs them.

`fit` draws a step's random numbers first and does the work elsewhere; it must end with these weights, bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from utils.learn.augment import degrade, randaugment, random_affine, random_colour, random_operations, recolour, to_float, warp
from utils.learn.dataset import twins
from utils.learn.models import frozen_copy


def rounds(members, generator):
    while True:
        yield from members[torch.randperm(len(members), generator=generator)]


def batches_of(train, items, config, generator):
    if config.twins:
        pairs = torch.from_numpy(items[twins(train.index.iloc[items])])
        stream = rounds(pairs, generator)
        while True:
            yield torch.cat([next(stream) for _ in range(config.batch_size // 2)])
    labels = train.labels.numpy()[items]
    streams = [rounds(torch.from_numpy(items[labels == value]), generator) for value in (0, 1)]
    while True:
        yield torch.stack([next(stream) for _ in range(config.batch_size // 2) for stream in streams])


def labelled_batches(train, config, generator):
    clean = batches_of(train, np.flatnonzero(train.index["quality"] == train.qualities[0]), config, generator)
    for _ in range(round(config.clean_first * config.steps)):
        yield next(clean)
    yield from batches_of(train, np.arange(len(train)), config, generator)


def noised(images, px, generator, augment, n=0, m=0):
    images = warp(images, random_affine(len(images), generator, augment), px)
    images = recolour(images, random_colour(len(images), generator, augment.colour))
    for _ in range(n):
        images = randaugment(images, random_operations(len(images), 1, generator), m)
    return images


def noised_twins(images, px, generator, augment, *operations):
    state, halves = generator.get_state(), []
    for half in (images[0::2], images[1::2]):
        generator.set_state(state)
        halves.append(noised(half, px, generator, augment, *operations))
    return torch.stack(halves, dim=1).flatten(0, 1)


def steps_of(model, train, config, shared, generator, student=None, pool=None, pseudo=None):
    """Yield one loss a step: of labels alone, of labels under a student's noise, or of a student."""
    augment, smoothing = shared.augment, shared.label_smoothing
    operations = (student.randaugment_n, student.randaugment_m) if student else ()
    x_batches = labelled_batches(train, config, generator)
    u_streams = {view: rounds(torch.arange(len(kept)), generator) for view, kept in pseudo.kept.items()} if pseudo else {}
    while True:
        x = next(x_batches)
        share = student.mu * config.batch_size // len(u_streams) if u_streams else 0
        u = {view: pseudo.kept[view][torch.stack([next(stream) for _ in range(share)])] for view, stream in u_streams.items()}
        chosen = torch.zeros(len(x), dtype=torch.bool)
        if student and not pseudo:
            is_clean = torch.from_numpy((train.index["quality"].to_numpy() == "c23")[x.numpy()])
            chosen = is_clean & (torch.rand(len(x), generator=generator) < student.degraded_share)
        images_x = to_float(train.images(x))
        if chosen.any():
            images_x[chosen] = degrade(images_x[chosen], student.degrade, generator, augment)
        images_u = {view: to_float(pool.images(items, view)) for view, items in u.items()}
        if "c23" in images_u:
            images_u["c23"] = degrade(images_u["c23"], student.degrade, generator, augment)
        inputs = (noised_twins if config.twins else noised)(images_x, model.px, generator, augment, *operations)
        if not pseudo:
            yield F.cross_entropy(model(inputs), train.labels[x], label_smoothing=smoothing)
            continue
        inputs_u = noised(torch.cat(list(images_u.values())), model.px, generator, augment, *operations)
        logits = model(torch.cat([inputs, inputs_u]))
        targets_u = torch.cat([pseudo.p[view][items] for view, items in u.items()])
        targets_u = targets_u if student.soft else F.one_hot(targets_u.argmax(1), 2).float()
        Lu = F.cross_entropy(logits[len(x) :], targets_u)
        yield F.cross_entropy(logits[: len(x)], train.labels[x], label_smoothing=smoothing) + student.lambda_u * Lu


def literal_fit(model, train, config, shared, seed, **of_student):
    """Return the averaged weights behind the last step, and the losses of all steps, in float32."""
    model.all_layers()
    torch.manual_seed(seed)
    learned = list(model.parameters())
    groups = [[p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]]
    decays = [{"params": some, "weight_decay": decay} for some, decay in zip(groups, (shared.weight_decay, 0.0), strict=True)]
    optimiser = torch.optim.AdamW(decays, lr=config.lr, fused=True)
    average, losses, rising = frozen_copy(model), [], max(1, round(shared.warmup * config.steps))
    model.train()
    objective = steps_of(model, train, config, shared, torch.Generator().manual_seed(seed), **of_student)
    for step in range(config.steps):
        falling = 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, config.steps - rising)))
        for group in optimiser.param_groups:
            group["lr"] = config.lr * ((step + 1) / rising if step < rising else falling)
        loss = next(objective)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, shared.clip_grad)
        optimiser.step()
        losses.append(loss.item())
        decay = min(shared.ema, (2 + step) / (11 + step))
        with torch.no_grad():
            for target, source in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                target.lerp_(source, 1 - decay) if target.is_floating_point() else target.copy_(source)
    return average.state_dict(), losses
