"""Linear maps: components and variances as numpy finds them; what is faint stays faint for every kind of probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hear_ssl.packaging.linear_map import LinearMap, Moments, even_rotation, parse_linear


def correlated_rows(count: int) -> Tensor:
    """Return rows of 10 dimensions that share the 5 sources of their deviations."""
    made = torch.Generator().manual_seed(0)
    return 100.0 + torch.randn(count, 5, generator=made) * torch.tensor([9.0, 4.0, 2.0, 1.0, 0.5]) @ torch.randn(5, 10, generator=made)


def moments_of(rows: Tensor) -> Moments:
    found = Moments(rows.shape[1])
    for part in rows.split(70):
        found.add(part)
    return found


def mapped(one: LinearMap, rows: Tensor) -> np.ndarray:
    return one.fit(moments_of(rows))(rows).double().numpy()


def test_moments_are_those_of_all_rows_at_once() -> None:
    rows = correlated_rows(500)
    found = moments_of(rows)
    np.testing.assert_allclose(found.mean(), rows.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), np.cov(rows.double().numpy().T, bias=True), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("flatten", [0.0, 0.25, 1.0])
def test_components_are_the_largest_with_variances_evened_out(flatten: float) -> None:
    rows = correlated_rows(2000)
    found = mapped(LinearMap("pca", 4, flatten=flatten, even=False), rows)
    variances = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, bias=True))[-4:]
    wanted = variances ** (1.0 - flatten)
    wanted *= np.trace(np.cov(rows.double().numpy().T, bias=True)) / wanted.sum()
    covariance = np.cov(found.T, bias=True)
    np.testing.assert_allclose(np.diag(covariance), wanted, rtol=1e-3)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-3 * wanted.max())
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-3 * wanted.max() ** 0.5)


def test_shrunk_variances_are_those_of_the_formula() -> None:
    rows = correlated_rows(2000)
    values = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, bias=True))
    for shrinkage in (0.0, 0.1, 1.0):
        covariance = np.cov(mapped(LinearMap("whiten", 4, shrinkage=shrinkage, even=False), rows).T, bias=True)
        wanted = values[-4:] / ((1.0 - shrinkage) * values[-4:] + shrinkage * values.mean())
        np.testing.assert_allclose(np.diag(covariance), wanted * 4.0 / wanted.sum(), rtol=1e-3)


@pytest.mark.parametrize("kind", ["pca", "whiten"])
def test_even_dimensions_have_one_variance_and_the_same_distances(kind: str) -> None:
    rows = correlated_rows(2000)
    plain, even = mapped(LinearMap(kind, 4, even=False), rows), mapped(LinearMap(kind, 4), rows)
    np.testing.assert_allclose(even.var(0), np.full(4, plain.var(0).mean()), rtol=1e-3)
    np.testing.assert_allclose(even[:50] @ even[:50].T, plain[:50] @ plain[:50].T, rtol=1e-3, atol=1e-2 * plain.var())


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_a_rotation_is_orthogonal_and_even(count: int) -> None:
    variances = torch.logspace(0, -6, count).double()
    rotation = even_rotation(variances)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(count).double())
    torch.testing.assert_close((rotation * variances @ rotation.T).diagonal(), variances.mean().expand(count))
    assert torch.equal(rotation, even_rotation(variances))


def noisy_embeddings() -> tuple[Tensor, Tensor]:
    """Return embeddings and labels: 4 directions of large variance tell 8 classes apart, 60 of tiny variance are noise."""
    made = torch.Generator().manual_seed(1)
    labels = torch.randint(8, (480,), generator=made)
    signal = (3.0 * torch.randn(8, 4, generator=made))[labels] + torch.randn(480, 4, generator=made)
    turned, _ = torch.linalg.qr(torch.randn(64, 64, generator=made))
    return torch.cat([signal, 3e-2 * torch.randn(480, 60, generator=made)], 1) @ turned, labels


def neighbours_right(rows: Tensor, labels: Tensor, standardised: bool) -> float:
    """Return the share of rows whose nearest other row, by cosine, has the same label."""
    rows = rows - rows.mean(0)
    rows = torch.nn.functional.normalize(rows / rows.std(0).clamp_min(1e-12) if standardised else rows)
    nearest = (rows @ rows.T).fill_diagonal_(-2.0).argmax(1)
    return float((labels[nearest] == labels).float().mean())


@pytest.mark.parametrize("kind", ["pca", "whiten"])
def test_tiny_components_are_no_noise_for_a_probe_that_standardises(kind: str) -> None:
    rows, labels = noisy_embeddings()
    unmapped = neighbours_right(rows, labels, standardised=False)
    moments = moments_of(rows)
    uneven = LinearMap(kind, 64, even=False).fit(moments)(rows)
    even = LinearMap(kind, 64).fit(moments)(rows)
    assert neighbours_right(uneven, labels, standardised=True) < unmapped - 0.2  # each component alone is a dimension: noise
    for standardised in (False, True):
        assert neighbours_right(even, labels, standardised) > unmapped - 0.02


def test_unit_variance_leaves_out_what_hardly_varies() -> None:
    made = torch.Generator().manual_seed(0)
    scales = torch.tensor([10.0, 1.0, 1e-3, 5.0, 0.0])
    rows = 7.0 + torch.randn(3000, 5, generator=made) * scales
    found = mapped(LinearMap("standardise", shrinkage=0.0), rows)
    np.testing.assert_allclose(found.var(0), np.ones(3), rtol=1e-3)
    np.testing.assert_allclose(np.corrcoef(found[:, 2], rows[:, 3].numpy())[0, 1], 1.0, atol=1e-4)
    assert mapped(LinearMap("standardise", 2), rows).shape == (3000, 2)
    weight = LinearMap("standardise", 2).fit(moments_of(rows)).weight
    assert (weight != 0).nonzero().tolist() == [[0, 0], [1, 3]]
    shrunk = mapped(LinearMap("standardise"), rows).var(0)
    assert shrunk[1] < 0.6 < 1.0 < shrunk[0]


def test_all_dimensions_that_vary_are_kept_without_a_number() -> None:
    assert mapped(LinearMap("whiten"), correlated_rows(2000)).shape[1] == 5
    with pytest.raises(ValueError, match="6 dimensions are asked for and 5 components were found"):
        mapped(LinearMap("pca", 6), correlated_rows(2000))
    with pytest.raises(ValueError, match="1 dimensions are asked for and 0 dimensions vary"):
        mapped(LinearMap("standardise"), torch.ones(20, 3))


def test_a_scale_counts_before_all_else() -> None:
    rows, scale = correlated_rows(2000), torch.tensor([1.0] * 6 + [0.25] * 4)
    found = LinearMap("pca", 4, even=False).fit(moments_of(rows), scale)(rows)
    wanted = LinearMap("pca", 4, even=False).fit(moments_of(rows * scale))(rows * scale)
    torch.testing.assert_close(found.abs(), wanted.abs(), rtol=1e-3, atol=2e-3 * float(wanted.std()))  # a component's sign is free


def test_maps_are_read_from_texts() -> None:
    assert parse_linear([]) == {}
    assert parse_linear(["pca:256"]) == {"scene": LinearMap("pca", 256), "timestamp": LinearMap("pca", 256)}
    assert parse_linear(["scene=whiten", "timestamp=standardise:8", "scene=pca"]) == {
        "scene": LinearMap("pca"),
        "timestamp": LinearMap("standardise", 8),
    }
    for text in ("", "pca:", "pca:0", "pca:-1", "pca:x", "lda:3", "clips=pca:3", "scene=", "=pca"):
        with pytest.raises(ValueError, match="is not of the form KIND, KIND:DIMENSIONS") as caught:
            parse_linear([text])
        assert "\n" not in str(caught.value)
    for wrong in ({"kind": "lda"}, {"dims": -1}, {"flatten": 2.0}, {"shrinkage": float("nan")}):
        with pytest.raises(ValueError, match="must be"):
            LinearMap(**wrong)  # type: ignore[arg-type]
