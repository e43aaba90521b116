"""What holds for each registered distiller, row by row of the table in toys.py."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from gancompress.distill import DISTILLERS, DistillBatch, Distiller
from tests.distill.toys import SETTINGS, Setting, bench

every = pytest.mark.parametrize("setting", SETTINGS, ids=str)
NAMES = {"feature", "attention", "class_aware", "co_attention", "kernel_alignment", "relational"}
# Those whose loss is a function of the recorded activations.
TAPPED = [s for s in SETTINGS if s.name in NAMES and s.options.get("variant") != "cam"]
tapped = pytest.mark.parametrize("setting", TAPPED, ids=str)


def test_table_holds_every_registered_distiller():
    assert {s.name for s in SETTINGS} == set(DISTILLERS.names())


@every
def test_fulfils_the_protocol(setting: Setting):
    distiller = bench(same=True).build(setting.name, **setting.options)
    assert isinstance(distiller, Distiller)
    assert all(len(pair) == 2 for pair in distiller.pairs)


@every
def test_zero_when_student_is_the_teacher(setting: Setting):
    networks = bench(same=True)
    distiller = networks.build(setting.name, **setting.options)
    for seed in (2, 3):
        loss = float(distiller(networks.batch(distiller, seed=seed)).detach())
        if setting.zero_at_identity:
            assert abs(loss) < 1e-6
        else:
            assert loss > 1e-4


@every
def test_positive_scalar_when_they_differ(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    loss = distiller(networks.batch(distiller))
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert 1e-6 < float(loss.detach()) < 100


@every
def test_gradient_reaches_the_student_only(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    batch = networks.batch(distiller)
    # A teacher run with a graph must not be trained either.
    batch = dataclasses.replace(
        batch,
        teacher={k: v.clone().requires_grad_() for k, v in batch.teacher.items()},
        teacher_images=batch.teacher_images.clone().requires_grad_(),
    )
    distiller(batch).backward()
    norms = [p.grad.norm() for p in networks.student.parameters() if p.grad is not None]
    assert torch.stack(norms).isfinite().all()
    assert float(torch.stack(norms).max()) > 0
    assert all(t.grad is None for t in (*batch.teacher.values(), batch.teacher_images))
    for network in (networks.teacher, networks.discriminator):
        assert all(p.grad is None for p in network.parameters())


@every
def test_one_step_down_the_gradient_lowers_the_loss(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    parameters = [*networks.student.parameters(), *distiller.parameters()]
    # Without memory over steps: a moving average would answer only in part.
    state = copy.deepcopy(distiller.state_dict())
    before = distiller(networks.batch(distiller))
    grads = torch.autograd.grad(before, parameters, allow_unused=True)
    length = torch.stack([g.norm() for g in grads if g is not None]).norm()
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                parameter -= 1e-3 * grad / length
    distiller.load_state_dict(state)
    assert float(distiller(networks.batch(distiller)).detach()) < float(before.detach())


@every
def test_networks_are_left_as_they_were(setting: Setting):
    networks = bench(same=False)
    networks.student.train()
    parts = (networks.teacher, networks.student, networks.discriminator)
    modes = [[m.training for m in part.modules()] for part in parts]
    states = [copy.deepcopy(part.state_dict()) for part in parts]
    random = torch.random.get_rng_state()
    distiller = networks.build(setting.name, **setting.options)
    for part, mode, state in zip(parts, modes, states, strict=True):
        assert [m.training for m in part.modules()] == mode
        for key, value in part.state_dict().items():
            assert torch.equal(value, state[key]), key
    batch = networks.batch(distiller)
    state = copy.deepcopy(networks.student.state_dict())
    distiller(batch).backward()
    for key, value in networks.student.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert torch.equal(torch.random.get_rng_state(), random)
    for part in parts:
        assert all(p.requires_grad for p in part.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in part.modules())


@every
def test_loss_is_float32_under_bf16_autocast(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    expected = float(distiller(networks.batch(distiller)).detach())
    distiller = networks.build(setting.name, **setting.options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batch = networks.batch(distiller)
        loss = distiller(batch)
    assert batch.student_images.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(expected, rel=0.2)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in networks.student.parameters() if p.grad is not None)


@pytest.mark.parametrize(  # the discriminator of co_attention runs under the caller's autocast
    "setting", [s for s in TAPPED if s.name != "co_attention"], ids=str
)
def test_loss_itself_is_not_computed_in_bf16(setting: Setting):
    networks = bench(same=False)
    batch = networks.batch(networks.build(setting.name, **setting.options))
    values = []
    for enabled in (False, True):
        distiller = networks.build(setting.name, **setting.options)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            values.append(float(distiller(batch).detach()))
    assert values[0] == values[1]


@every
@pytest.mark.parametrize("dead", ["student", "teacher", "both"])
def test_gradient_is_finite_at_zero_activations(setting: Setting, dead: str):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    batch = networks.batch(distiller)
    leaves = {k: v.detach().clone() for k, v in batch.student.items()}
    image = batch.student_images.detach().clone()
    if dead != "teacher":
        leaves = {k: torch.zeros_like(v) for k, v in leaves.items()}
        image = torch.zeros_like(image)
    for leaf in (*leaves.values(), image):
        leaf.requires_grad_()
    teacher, teacher_image = dict(batch.teacher), batch.teacher_images
    if dead != "student":
        teacher = {k: torch.zeros_like(v) for k, v in teacher.items()}
        teacher_image = torch.zeros_like(teacher_image)
    loss = distiller(
        DistillBatch(batch.inputs, batch.labels, image, teacher_image, leaves, teacher)
    )
    loss.backward()
    assert loss.isfinite()
    for leaf in (*leaves.values(), image):
        assert leaf.grad is None or leaf.grad.isfinite().all()


@tapped
def test_cutting_dead_channels_changes_nothing(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    first = networks.batch(distiller)
    survivors = {"a": torch.tensor([0, 2, 3]), "b": torch.tensor([0, 2])}  # of 4, then of 3
    batch, kept = _held_at_zero(first, survivors["a"], 4)
    state = copy.deepcopy(distiller.state_dict())
    whole, whole_grads = _loss(distiller, batch)
    distiller.load_state_dict(state)
    distiller.shrink(kept)
    small, small_grads = _loss(distiller, _sliced(batch, kept))
    assert small == pytest.approx(whole, rel=1e-6, abs=1e-8)
    for tap, grad in small_grads.items():
        torch.testing.assert_close(grad, whole_grads[tap][:, kept[tap]], rtol=1e-4, atol=1e-7)

    # A second cut counts from what the first one left.
    batch, kept = _held_at_zero(_sliced(batch, kept), survivors["b"], 3)
    distiller.load_state_dict(distiller.state_dict())
    state = copy.deepcopy(distiller.state_dict())
    whole, _ = _loss(distiller, batch)
    distiller.load_state_dict(state)
    distiller.shrink(kept)
    assert _loss(distiller, _sliced(batch, kept))[0] == pytest.approx(whole, rel=1e-6, abs=1e-8)


@every
def test_state_survives_a_checkpoint(setting: Setting):
    networks = bench(same=False)
    one = networks.build(setting.name, **setting.options)
    first = networks.batch(one, seed=5)
    one(first)
    batch = networks.batch(one)
    if setting in TAPPED:
        batch, kept = _held_at_zero(batch, torch.tensor([0, 1, 3]), 4)
        batch = _sliced(batch, kept)
        one.shrink(kept)
    saved = copy.deepcopy(one.state_dict())
    other = networks.build(setting.name, **setting.options)
    other.load_state_dict(saved)
    assert float(one(batch).detach()) == float(other(batch).detach())


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if s.options.get("relation") != "gram"], ids=str
)
def test_student_may_be_another_width(setting: Setting):
    networks = bench(same=False, width=3)
    distiller = networks.build(setting.name, **setting.options)
    loss = distiller(networks.batch(distiller))
    loss.backward()
    assert float(loss.detach()) > 0


@every
def test_copies_do_not_share_state(setting: Setting):
    networks = bench(same=False)
    distiller = networks.build(setting.name, **setting.options)
    assert isinstance(distiller, nn.Module)
    twin = copy.deepcopy(distiller)
    twin(networks.batch(distiller, seed=9))
    for key, value in distiller.state_dict().items():
        assert key in twin.state_dict()
        assert value.data_ptr() != twin.state_dict()[key].data_ptr() or value.numel() == 0


def _held_at_zero(
    batch: DistillBatch, survivors: Tensor, width: int
) -> tuple[DistillBatch, dict[str, Tensor]]:
    student, kept = {}, {}
    for tap, x in batch.student.items():
        # A tap of gain and bias rows holds each channel twice.
        indices = torch.cat([survivors + start for start in range(0, x.shape[1], width)])
        gate = torch.zeros(x.shape[1]).index_fill(0, indices, 1)
        student[tap] = x.detach() * gate.view(1, -1, *[1] * (x.dim() - 2))
        kept[tap] = indices
    return dataclasses.replace(batch, student=student), kept


def _sliced(batch: DistillBatch, kept: dict[str, Tensor]) -> DistillBatch:
    student = {k: v.detach()[:, kept[k]] if k in kept else v for k, v in batch.student.items()}
    return dataclasses.replace(batch, student=student)


def _loss(distiller: Distiller, batch: DistillBatch) -> tuple[float, dict[str, Tensor]]:
    leaves = {k: v.detach().clone().requires_grad_() for k, v in batch.student.items()}
    images = batch.student_images.detach()
    loss = distiller(dataclasses.replace(batch, student=leaves, student_images=images))
    loss.backward()
    return float(loss.detach()), {k: v.grad for k, v in leaves.items() if v.grad is not None}
