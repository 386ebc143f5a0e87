"""Every loss against a slow loop from its paper's formula, and its value where it is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_ssl.objectives.barlow_twins import barlow_twins
from hear_ssl.objectives.byol import regression
from hear_ssl.objectives.cola import COLA, cola
from hear_ssl.objectives.encoded import Encoded
from hear_ssl.objectives.frame import frame_contrast
from hear_ssl.objectives.moco_v3 import MoCoV3, info_nce
from hear_ssl.objectives.nt_xent import nt_xent
from hear_ssl.objectives.pitch import equivariance
from hear_ssl.objectives.vicreg import vicreg
from hear_ssl.objectives.weighted_sum import build_objective, objective

N, DIM = 6, 5


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, DIM, generator=generator, dtype=torch.float64), torch.randn(N, DIM, generator=generator, dtype=torch.float64)


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def test_nt_xent_is_the_papers_double_sum() -> None:
    z_a, z_b = pair()
    rows, total = [*z_a, *z_b], 0.0
    for i in range(2 * N):
        j = (i + N) % (2 * N)
        others = sum(math.exp(cosine(rows[i], rows[k]) / 0.2) for k in range(2 * N) if k != i)
        total -= math.log(math.exp(cosine(rows[i], rows[j]) / 0.2) / others)
    assert float(nt_xent(z_a, z_b, 0.2)) == pytest.approx(total / (2 * N), rel=1e-5)


def test_nt_xent_of_a_collapsed_batch_is_log_2n_minus_1() -> None:
    assert float(nt_xent(torch.ones(N, DIM), torch.ones(N, DIM), 0.1)) == pytest.approx(math.log(2 * N - 1), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 12, 100])
def test_chunked_nt_xent_has_the_same_value_and_gradient(chunk: int) -> None:
    results = []
    for rows in (0, chunk):
        z_a, z_b = (z.float().requires_grad_() for z in pair())
        loss = nt_xent(z_a, z_b, 0.1, rows)
        results.append((loss, *torch.autograd.grad(loss, [z_a, z_b])))
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-6)


def test_cola_is_cross_entropy_of_the_bilinear_form() -> None:
    z_a, z_b = pair()
    bilinear = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    total = 0.0
    for i in range(N):
        scores = [float(z_a[i] @ bilinear @ z_b[j]) for j in range(N)]
        total -= scores[i] - math.log(sum(math.exp(score) for score in scores))
    assert float(cola(z_a @ bilinear, z_b)) == pytest.approx(total / N, rel=1e-6)


def test_collapsed_cola_is_log_n() -> None:
    assert float(cola(torch.ones(N, DIM), torch.ones(N, DIM))) == pytest.approx(math.log(N), rel=1e-6)


def test_symmetric_cola_is_the_mean_over_rows_and_columns_of_one_matrix() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, N, 3, DIM)
    encoded = Encoded(tokens.mean(2), tokens)
    for similarity in ("bilinear", "cosine"):
        term = COLA(DIM, projection_dim=8, symmetric=True, similarity=similarity)
        z_a, z_b = term.head(encoded.clip)
        logits = z_a @ term.bilinear @ z_b.T if similarity == "bilinear" else F.normalize(z_a) @ F.normalize(z_b).T / 0.2
        rows, columns = F.cross_entropy(logits, torch.arange(N)), F.cross_entropy(logits.T, torch.arange(N))
        assert abs(rows - columns) > 1e-5
        torch.testing.assert_close(term(encoded), (rows + columns) / 2)


def test_info_nce_carries_two_tau_and_no_gradient_to_keys() -> None:
    queries, keys = (z.requires_grad_() for z in pair())
    total = 0.0
    for i in range(N):
        scores = [cosine(queries[i].detach(), keys[j].detach()) / 0.5 for j in range(N)]
        total -= scores[i] - math.log(sum(math.exp(score) for score in scores))
    loss = info_nce(queries, keys, 0.5)
    assert loss.item() == pytest.approx(2 * 0.5 * total / N, rel=1e-5)
    loss.backward()
    assert keys.grad is None
    assert queries.grad is not None


def test_ema_heads_move_by_the_momentum() -> None:
    term = MoCoV3(DIM, projection_dim=4, hidden_dim=8)
    before = [parameter.clone() for parameter in term.teacher_projector.parameters()]
    with torch.no_grad():
        for parameter in term.projector.parameters():
            parameter.add_(1.0)
    term.update_teacher(0.75)
    for kept, moved in zip(before, term.teacher_projector.parameters(), strict=True):
        torch.testing.assert_close(moved, kept + 0.25)
    assert not any(parameter.requires_grad for parameter in term.teacher_projector.parameters())


def test_byol_regression_is_two_minus_two_cosine() -> None:
    z_a, z_b = pair()
    expected = sum(2 - 2 * cosine(one, other) for one, other in zip(z_a, z_b, strict=True)) / N
    assert float(regression(z_a, z_b)) == pytest.approx(expected, rel=1e-5)
    assert float(regression(z_a, 3.0 * z_a)) == pytest.approx(0.0, abs=1e-6)


def test_barlow_twins_is_the_papers_sum() -> None:
    z_a, z_b = pair()
    c = [[float((z_a[:, i] - z_a[:, i].mean()) @ (z_b[:, j] - z_b[:, j].mean())) for j in range(DIM)] for i in range(DIM)]
    for i in range(DIM):
        for j in range(DIM):
            c[i][j] /= math.sqrt(float(z_a[:, i].var(unbiased=False) * z_b[:, j].var(unbiased=False))) * N
    expected = sum((1 - c[i][i]) ** 2 for i in range(DIM)) + 0.1 * sum(c[i][j] ** 2 for i in range(DIM) for j in range(DIM) if i != j)
    assert float(barlow_twins(z_a, z_b, 0.1)) == pytest.approx(expected, rel=1e-3)


def test_barlow_twins_of_a_collapsed_batch_is_the_number_of_dimensions() -> None:
    assert float(barlow_twins(torch.ones(N, DIM), torch.ones(N, DIM), 0.005)) == pytest.approx(DIM)


def test_vicreg_is_the_papers_sum_with_half_the_variance_on_each_view() -> None:
    z_a, z_b = pair()
    distance = sum(float((z_a[i] - z_b[i]).square().sum()) for i in range(N)) / (N * DIM)
    variance = covariance = 0.0
    for z in (z_a, z_b):
        matrix = torch.cov(z.T)
        variance += sum(max(0.0, 1.0 - math.sqrt(float(matrix[d, d]) + 1e-4)) for d in range(DIM)) / DIM / 2
        covariance += sum(float(matrix[i, j]) ** 2 for i in range(DIM) for j in range(DIM) if i != j) / DIM
    expected = 25 * distance + 25 * variance + covariance
    assert float(vicreg(z_a, z_b, 25.0, 25.0, 1.0)) == pytest.approx(expected, rel=1e-5)


def test_vicreg_of_a_collapsed_batch_is_the_variance_weight() -> None:
    assert float(vicreg(torch.ones(N, DIM), torch.ones(N, DIM), 25.0, 25.0, 1.0)) == pytest.approx(25.0 * (1.0 - 0.01), rel=1e-4)


@pytest.mark.parametrize("guard", [0, 1])
def test_frame_contrast_is_a_loop_over_moments(guard: int) -> None:
    clips, tokens = 3, 4
    z_a, z_b = torch.randn(2, clips, tokens, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for queries, keys in ((z_a, z_b), (z_b, z_a)):
        for clip in range(clips):
            for time in range(tokens):
                others = 0.0
                for other in range(clips):
                    for moment in range(tokens):
                        if other == clip and 0 < abs(moment - time) <= guard:
                            continue
                        others += math.exp(cosine(queries[clip, time], keys[other, moment]) / 0.3)
                total -= cosine(queries[clip, time], keys[clip, time]) / 0.3 - math.log(others)
    assert float(frame_contrast(z_a, z_b, 0.3, guard)) == pytest.approx(total / (2 * clips * tokens), rel=1e-5)
    assert float(frame_contrast(z_a, z_b, 0.3, guard, chunk=5)) == pytest.approx(total / (2 * clips * tokens), rel=1e-5)


def test_collapsed_frame_contrast_is_log_of_all_moments() -> None:
    z = torch.ones(3, 4, DIM)
    assert float(frame_contrast(z, z, 0.1)) == pytest.approx(math.log(12), rel=1e-5)


def test_pitch_error_vanishes_for_a_code_in_semitones_and_not_for_a_constant() -> None:
    shift = torch.tensor([-2.0, 0.5, 3.0])
    code = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    assert float(equivariance(code, code + shift[:, None], shift, 1.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(equivariance(code, code, shift, 1.0)) == pytest.approx((1.5 + 0.125 + 2.5) / 3, rel=1e-5)


def test_losses_stay_float32_under_autocast() -> None:
    z_a, z_b = (z.float() for z in pair())
    plain = nt_xent(z_a, z_b, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(nt_xent(z_a, z_b, 0.1), plain, rtol=0, atol=0)
        torch.testing.assert_close(barlow_twins(z_a, z_b, 0.1), barlow_twins(z_a, z_b, 0.1).float(), rtol=0, atol=0)


def test_the_sum_is_weighted_and_names_its_terms() -> None:
    torch.manual_seed(0)
    parts = {"nt_xent": objective("nt_xent", weight=0.5, projection_dim=8, hidden_dim=8), "cola": objective("cola", weight=2.0)}
    term = build_objective(parts, DIM, 40.0)
    tokens = torch.randn(2, N, 3, DIM)
    total = term(Encoded(tokens.mean(2), tokens))
    assert set(term.metrics) == {"loss_nt_xent", "loss_cola"}
    torch.testing.assert_close(total, 0.5 * term.metrics["loss_nt_xent"] + 2.0 * term.metrics["loss_cola"])


def test_no_term_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="the config names no objective"):
        build_objective({"nt_xent": objective("nt_xent", weight=0.0)}, DIM, 40.0)


def test_cosine_is_what_torch_says() -> None:
    z_a, z_b = pair()
    assert cosine(z_a[0], z_b[0]) == pytest.approx(float(F.cosine_similarity(z_a[0], z_b[0], dim=0)))
