"""LightningModules as people write them."""

import lightning
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR

from tests.trainers.trainers import momentum


class Classifier(lightning.LightningModule):
    """A model of classes, or of tokens with ragged labels: its mean is each micro-batch's own."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, batch_idx):
        inputs, labels = batch
        loss = F.cross_entropy(self.model(inputs).flatten(0, -2), labels.flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = momentum(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"}}


class TwoOptimizers(Classifier):
    automatic_optimization = False

    def configure_optimizers(self):
        return [momentum(self.parameters()), momentum(self.parameters())]


def fitted(model, kind=Classifier, steps=4, **changes):
    trainer = lightning.Trainer(
        accelerator="cpu", accumulate_grad_batches=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **changes,
    )  # fmt: skip
    return kind(model), trainer
