"""The predictor is torch's own network: weights at the start, gradients, steps, dropout, predictions."""

from __future__ import annotations

import pytest
import torch

from hear_ssl.evaluation.protocol import predictor
from hear_ssl.evaluation.protocol.predictor import Predictor, PredictorSettings, RowBatch, initial_weight


def torchs_network(mine: Predictor) -> torch.nn.Sequential:
    """Return torch's own network with the same parameters, without dropout."""
    layers: list[torch.nn.Module] = []
    for layer in mine.hidden:
        layers += [torch.nn.Linear(*layer.weight.shape), torch.nn.BatchNorm1d(layer.weight.shape[1]), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(*mine.weight.shape))
    with torch.no_grad():
        theirs = iter(network.parameters())
        for tensor in [part for layer in mine.hidden for part in layer.state()[:4]] + [mine.weight, mine.bias]:
            next(theirs).copy_(tensor.mT if tensor.ndim == 2 else tensor)
    for layer in layers[::3]:
        layer.bias.requires_grad_(False)  # without effect before BatchNorm, but Adam makes steps of rounding errors
    return network


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_predictor_is_torchs_own_network(multilabel: bool, depth: int, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same gradients as autograd's, and after five steps the predictions of torch's layers, losses and Adam."""
    monkeypatch.setattr(predictor, "ONEDNN", onednn and predictor.ONEDNN)
    generator = torch.Generator().manual_seed(0)
    mine = Predictor(10, 3, PredictorSettings(depth, 16, 0.0, 1e-2), multilabel, 0)
    network = torchs_network(mine)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    rows, targets = torch.randn(64, 10, generator=generator), torch.eye(3)[torch.arange(64) % 3]
    compute = torch.nn.BCEWithLogitsLoss() if multilabel else torch.nn.CrossEntropyLoss()
    [batch] = RowBatch.split(rows, targets, 64)
    for step in range(5):
        optimizer.zero_grad()
        compute(network(rows), targets if multilabel else targets.argmax(1)).backward()
        if step == 0:
            expected = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            for ours, theirs in zip(mine.gradients(batch), expected, strict=True):
                torch.testing.assert_close(ours, theirs.mT if theirs.ndim == 2 else theirs, rtol=1e-4, atol=1e-6)
            for layer in mine.hidden:  # gradients() has moved the running statistics once
                layer.mean.zero_()
                layer.variance.fill_(1.0)
        optimizer.step()
        mine.step(batch)
    with torch.no_grad():
        expected_logits = network.eval()(rows)
        expected_loss = float(compute(expected_logits, targets if multilabel else targets.argmax(1)))
    torch.testing.assert_close(mine.predict(rows), expected_logits, rtol=1e-3, atol=1e-4)
    assert float(predictor.loss(mine.predict(rows), targets, multilabel)) == pytest.approx(expected_loss, rel=1e-3)


def test_a_learning_rate_that_falls_is_torchs_cosine() -> None:
    mine = Predictor(10, 3, PredictorSettings(1, 16, 0.0, 1e-2, annealed_steps=5), False, 0)
    network = torchs_network(mine)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    rows, targets = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.eye(3)[torch.arange(64) % 3]
    [batch] = RowBatch.split(rows, targets, 64)
    for step in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(rows), targets.argmax(1)).backward()
        optimizer.step()
        schedule.step()
        mine.step(batch, step / 5)
    with torch.no_grad():
        torch.testing.assert_close(mine.predict(rows), network.eval()(rows), rtol=1e-3, atol=1e-4)


def test_a_falling_learning_rate_lasts_as_many_steps_as_asked() -> None:
    settings = PredictorSettings(max_epochs=20, annealed_steps=600)
    assert [settings.epochs(batches) for batches in (0, 1, 7, 30, 100)] == [600, 600, 86, 20, 20]  # none: a single row
    assert settings.lr_at(1.0) == 0.0
    assert [PredictorSettings(max_epochs=20).epochs(1), PredictorSettings(lr=0.1).lr_at(1.0)] == [20, 0.1]


def test_a_basis_of_the_span_keeps_inner_products_and_has_no_preferred_number() -> None:
    rows = torch.randn(20, 300, generator=torch.Generator().manual_seed(0)) + 3.0  # a direction that all share
    basis = predictor.span(rows, 1)
    turned = rows @ basis
    assert turned.shape == (20, 20)
    assert torch.allclose(turned @ turned.t(), rows @ rows.t(), rtol=1e-4)
    assert torch.allclose(turned @ basis.t(), rows, atol=1e-4)
    assert float(turned.mean(0).abs().max() / turned.mean(0).norm()) < 0.8  # without the turn .99: all of it in the first number
    assert torch.equal(basis, predictor.span(rows, 1))
    assert not torch.equal(basis, predictor.span(rows, 2))


def test_dropout_leaves_nine_tenths_and_their_mean(exact: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Predictor(10, 3, PredictorSettings(1, 1000, 0.1), False, 0)
    first, second = mine.kept(1000), mine.kept(1000)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert float(first.mean()) == pytest.approx(0.9, abs=2e-3)
    assert float((first * second).mean()) == pytest.approx(0.81, abs=3e-3)
    layer, rows = mine.hidden[0], torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
    plain = layer.forward(rows, torch.ones(1000, 1000), 0.0)
    assert float((layer.forward(rows, first, 0.1) * 0.9 - plain * first).abs().max()) < 1e-5
    [batch] = RowBatch.split(rows, torch.eye(3)[torch.arange(1000) % 3], 1000)
    monkeypatch.setattr(mine, "kept", lambda count: first)
    mine.weight.requires_grad_()
    layer.weight.requires_grad_()
    normal = torch.nn.functional.batch_norm(rows @ layer.weight + layer.bias, None, None, training=True)
    logits = torch.relu(normal * first / 0.9) @ mine.weight + mine.bias
    expected = torch.autograd.grad(predictor.loss(logits, batch.targets, False), [layer.weight, mine.weight])
    with torch.no_grad():
        found = mine.gradients(batch)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[3], expected[1], rtol=1e-3, atol=1e-6)


def test_a_single_row_at_the_end_is_left_out() -> None:
    batches = RowBatch.split(torch.randn(9, 4), torch.zeros(9, 2), 4)
    assert [len(batch.rows) for batch in batches] == [4, 4]


@pytest.mark.parametrize("how", ["xavier_uniform_", "xavier_normal_"])
def test_initial_weights_are_xaviers(how: str) -> None:
    weight = initial_weight(400, 600, 2.0**0.5, how, torch.Generator().manual_seed(0))
    reference = getattr(torch.nn.init, how)(torch.empty(600, 400), gain=2.0**0.5)
    assert weight.std() == pytest.approx(float(reference.std()), rel=0.02)
    assert (weight.abs().max() < 3.5 * weight.std()) == (how == "xavier_uniform_")
