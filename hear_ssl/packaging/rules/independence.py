"""Check that embeddings depend on the audio, and not on random numbers, earlier calls, other clips in the batch, or the caller's modes."""

from __future__ import annotations

from typing import Tuple

import torch
from torch import Tensor

from .outputs import finite_on_sound
from .rows import Check, RuleResult, Submission, found

EXACT = 1e-5  # float32 sums of the same numbers in the same order; threads may divide them differently
TOLERANCE = 1e-4  # other batch sizes use other kernels, which sum in another order: 1e-6 to 2e-5 in practice


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite when sizes differ or a value is not finite."""
    one, other = one.cpu().double().reshape(-1), other.cpu().double().reshape(-1)
    if one.shape != other.shape or not (torch.isfinite(one).all() and torch.isfinite(other).all()):
        return float("inf")
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-6))


def both(submission: Submission, audio: Tensor) -> Tuple[Tensor, Tensor]:
    """Return scene and timestamp embeddings."""
    return submission.scene(audio), submission.timestamps(audio)[0]


def apart(one: Tuple[Tensor, Tensor], other: Tuple[Tensor, Tensor]) -> float:
    """Return the larger difference of scene and timestamp embeddings."""
    return max(difference(one[0], other[0]), difference(one[1], other[1]))


def evaluation_mode(submission: Submission) -> RuleResult:
    """Embeddings are those of evaluation mode as the model is loaded.

    The evaluation kit never calls eval(), so dropout and batch statistics would stay active. Both sides use the same random seed.
    """
    audio, given, evaluating = submission.noise(1.5, 2), submission.fresh(), submission.fresh()
    evaluating.model.eval()
    torch.manual_seed(0)
    as_given = both(given, audio)
    torch.manual_seed(0)
    distance = apart(as_given, both(evaluating, audio))
    return found(f"{distance:.2g} from eval() (relative), tolerance {EXACT:g}", distance <= EXACT)


def same_input_same_output(submission: Submission) -> RuleResult:
    """Two newly loaded models give the same embeddings of the same sound: no dropout, no noise, no random weights.

    The random seeds of the two are different, and nothing has been called before.
    """
    audio, results = submission.noise(1.5, 2), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(both(submission.fresh(), audio))
    distance = apart(results[0], results[1])
    return found(f"{distance:.2g} apart (relative), tolerance {EXACT:g}", distance <= EXACT)


def no_state_between_calls(submission: Submission) -> RuleResult:
    """The same sound gives the same embeddings whatever was embedded before.

    A running mean or a buffer of past frames makes scores depend on the order of the clips.
    """
    audio, distance = submission.noise(1.5, 2), 0.0
    torch.manual_seed(0)
    first = both(submission, audio)
    for seconds, batch in ((1.3, 3), (2.2, 1)):
        both(submission, submission.noise(seconds, batch, seed=5))
        torch.manual_seed(0)
        distance = max(distance, apart(first, both(submission, audio)))
    return found(f"{distance:.2g} apart (relative), tolerance {EXACT:g}", distance <= EXACT)


def depends_on_input(submission: Submission) -> RuleResult:
    """Different sounds have different embeddings: a tone and noise are more than 0.1 % of the largest value apart."""
    noise = submission.noise(1.1)
    tone = torch.sin(torch.arange(noise.shape[1]).double() * 6.2831853 * 440.0 / submission.model.sample_rate).float()[None] * 0.5
    one, other = both(submission, tone), both(submission, noise)
    scene, frames = difference(one[0], other[0]), difference(one[1], other[1])
    return found(f"tone against noise: scene {scene:.3g}, timestamps {frames:.3g} apart (relative)", min(scene, frames) > 1e-3)


def alone_as_in_a_batch(submission: Submission) -> RuleResult:
    """A sound has the same embeddings alone and with others, louder and quieter ones.

    Statistics over the batch (BatchNorm in training mode, AmplitudeToDB(top_db)) would make them depend on the other sounds.
    """
    audio = submission.noise(1.5, 4) * torch.tensor([[1.0], [0.1], [0.01], [0.5]])
    scene, frames = both(submission, audio)
    distance = max(apart((scene[row], frames[row]), both(submission, audio[row : row + 1])) for row in range(4))
    return found(f"{distance:.2g} apart (relative), tolerance {TOLERANCE:g}", distance <= TOLERANCE)


def input_is_not_changed(submission: Submission) -> RuleResult:
    """The given audio is not modified: the caller may use it again."""
    audio = submission.noise(1.1, 2)
    before = audio.clone()
    submission.module.get_scene_embeddings(audio, submission.model)
    submission.module.get_timestamp_embeddings(audio, submission.model)
    return found("unchanged" if torch.equal(audio, before) else "changed in place", torch.equal(audio, before))


def no_gradient(submission: Submission) -> RuleResult:
    """Embeddings have no gradient when the caller has gradients enabled: 20 minutes would keep all activations in memory."""
    audio = submission.noise(1.1)
    with torch.enable_grad():
        scene = submission.module.get_scene_embeddings(audio, submission.model)
        frames, timestamps_ms = submission.module.get_timestamp_embeddings(audio, submission.model)
    kept = scene.requires_grad or frames.requires_grad or timestamps_ms.requires_grad
    return found("outputs require grad" if kept else "none", not kept)


CHECKS = [
    Check(evaluation_mode, (finite_on_sound,)),
    Check(same_input_same_output, (finite_on_sound, evaluation_mode)),
    Check(no_state_between_calls, (finite_on_sound, evaluation_mode)),
    Check(depends_on_input, (finite_on_sound,)),
    Check(alone_as_in_a_batch, (finite_on_sound, evaluation_mode, same_input_same_output, no_state_between_calls)),
    Check(input_is_not_changed),
    Check(no_gradient),
]
