"""The trainer's arithmetic, on one number."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.buckets import ClipSlice
from vidrd_core.training.data import DataConfig, RecipeError, TrainingData
from vidrd_core.training.datasets import SourceConfig
from vidrd_core.training.fsdp import ShardedModel
from vidrd_core.training.latent_statistics import measure_latents
from vidrd_core.training.stage_config import ImageVAEStageConfig
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.vae import ImageVAETask

STAGE = ImageVAEStageConfig("one", steps=12, batch_size=1, learning_rate=0.1, warmup=0, ema=0.5, clip_norm=1e9)


class OneNumber:
    """The loss is the number times what is drawn."""

    def __init__(self):
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.model.weight)
        self.drawn = {}

    def trainable(self):
        return dict(self.model.named_parameters())

    def batch(self, rng, shared_rng, held_out=False):
        return rng.uniform(1, 2)

    def loss(self, model, batch, rng, generator):
        self.drawn[batch] = rng.uniform()
        return {"loss": model.weight.sum() * batch}

    def sample(self, model, folder, step):
        return {}


def test_the_ema_follows_fast_at_first_and_then_by_its_decay(tmp_path, monkeypatch):
    weights = []
    step = Trainer.train_step

    def noted(self):
        losses = step(self)
        weights.append(self.task.model.weight.item())
        return losses

    monkeypatch.setattr(Trainer, "train_step", noted)
    averaged = Trainer(OneNumber(), STAGE, tmp_path).run()
    assert len(weights) == len(set(weights)) == 12
    expected = weights[0]
    for count, weight in enumerate(weights[1:], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    assert averaged.weight.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_is_by_the_mean_gradient_of_its_batches(tmp_path, monkeypatch, parts):
    stage = dataclasses.replace(STAGE, steps=1, accumulation=parts)
    trainer = Trainer(OneNumber(), stage, tmp_path)
    gradients = []
    monkeypatch.setattr(
        trainer.accelerator, "clip_grad_norm_", lambda params, norm: gradients.append(params[0].grad.item())
    )
    trainer.run()
    drawn = trainer.task.drawn
    assert len(drawn) == len(set(drawn.values())) == parts
    assert gradients == [pytest.approx(np.mean(list(drawn)), rel=1e-6)]


def test_latents_are_measured_to_mean_0_and_deviation_1(tmp_path):
    torch.manual_seed(0)
    vae = TemporalVAE(VAEConfig(block_out_channels=(4, 8), layers_per_block=1, norm_groups=2, temp_conv_depth=0))
    sources = (SourceConfig(shapes={"clips": 50}),)
    data = TrainingData(DataConfig(sources, frames=4, size=16), tmp_path)
    task = ImageVAETask(vae, data, STAGE)
    measure_latents(vae, task)
    video = data.video([ClipSlice(task.sampler.buckets[0], i, 0) for i in range(50)], 4)
    with torch.no_grad():
        channels = vae.encode(video).transpose(0, 1).flatten(1)
    assert channels.mean(dim=1).abs().max() < 0.1  # of a sample of its frames
    assert (channels.std(dim=1) - 1).abs().max() < 0.1


def test_clips_rendered_by_several_processes_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrd_core.training.data.PARTS_FOR_PROCESSES", 2)
    config = DataConfig((SourceConfig(shapes={"clips": 40}),), frames=2, size=16)
    caches = []
    for workers in (1, 2):
        data = TrainingData(config, tmp_path / str(workers), workers)
        caches.append(np.array(data.frames(data.sampler({}).buckets[0])))
    assert np.array_equal(*caches)
    assert caches[0].std() > 0


def test_fsdp_of_version_1_is_refused():
    plugin = SimpleNamespace(fsdp_version=1)
    state = SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin))
    with pytest.raises(RecipeError, match="start with 'accelerate launch --use_fsdp --fsdp_version 2'"):
        ShardedModel(torch.nn.Linear(1, 1), {}, state, ())
