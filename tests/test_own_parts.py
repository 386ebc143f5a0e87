"""Classes from a user's own file: what a config can select, and one line for each mistake in the file or in how it is named."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from hear_ssl.checkpoint import embedder_from_checkpoint
from hear_ssl.model import Embedder
from hear_ssl.model.options import options_of
from hear_ssl.model.parts import check_signature
from hear_ssl.packaging.own_parts import oldest_python
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.part_imports import check_imports, with_own_package
from hear_ssl.training.config import load_config, resumed_config
from hear_ssl.training.config_parts import OFFERED, OURS
from hear_ssl.training.fit_cli import key_help
from hear_ssl.training.parts_table import page
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny

NET = """
from dataclasses import dataclass
from torch import nn
from hear_ssl.model import Encoder, option

class Net(Encoder):
    @dataclass(frozen=True)
    class Options:
        width: int = option(8, "width of the tokens", "dimensions", 4, 64)

    time_stride = 4

    def __init__(self, n_mels, width):
        super().__init__()
        self.layer_dims = (width,)
        self.stem = nn.Conv1d(n_mels, width, 4, stride=4)

    def forward(self, features, kept=None):
        return [self.stem(features).transpose(1, 2)]
"""
LOSS = """
from dataclasses import dataclass
from hear_ssl.objectives import Objective, option

class Distance(Objective):
    @dataclass(frozen=True)
    class Options:
        power: float = option(2.0, "exponent of the distance", "", 0.5, 4.0)

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, encoded):
        return ((encoded.clip[0] - encoded.clip[1]).abs() ** self.power).mean()
"""


READOUT = """
from dataclasses import dataclass
import torch
from hear_ssl.model import Readout, option

class Peak(Readout):
    @dataclass(frozen=True)
    class Options:
        times: float = option(1.0, "factor", "", 0.5, 4.0)

    kinds = ("scene",)

    def __init__(self, n_mels, times):
        super().__init__()
        self.width, self.times = n_mels, times

    def start(self, out):
        return []

    def add(self, state, chunk):
        state.append(chunk.features.amax(2))

    def result(self, state):
        return torch.stack(state).amax(0) * self.times
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "loss.py").write_text(LOSS)
    (tmp_path / "peak.py").write_text(READOUT)
    return tmp_path


def test_a_config_selects_classes_by_their_files(folder: Path) -> None:
    (folder / "own").mkdir()
    shutil.copy(folder / "net.py", folder / "own" / "near.py")
    file = folder / "own" / "own.yaml"
    file.write_text("encoder: {./near.py:Net: {width: 16}}\nobjective: {nt_xent: {}, ../loss.py:Distance: {weight: 0.5}}\n")
    config = load_config(file, ["objective.Distance.power=3", "encoder.Net.width=12"])
    assert config.encoder.key == f"{folder}/own/near.py:Net"  # next to the config comes first
    assert config.encoder.options.width == 12
    assert {name: part.options.weight for name, part in config.objective.items()} == {"nt_xent": 1.0, "Distance": 0.5}
    assert config.objective["Distance"].options.power == 3.0
    assert load_config(None, ["encoder=./net.py:Net", "encoder=vit"]).encoder.name == "vit"
    assert list(load_config(file, ["objective.nt_xent=null"]).objective) == ["Distance"]
    assert list(load_config(file, ["objective.Distance=null", "objective=byol"]).objective) == ["nt_xent", "byol"]


def test_help_lists_the_keys_of_a_users_class(folder: Path) -> None:
    from hear_ssl.training.config_sources import read_sources

    text = key_help(read_sources(None, ["encoder=./net.py:Net", "objective=./loss.py:Distance"]))
    assert "  encoder.Net.width: int = 8\n      width of the tokens [dimensions" in text
    assert "  objective.Distance.power: float = 2.0\n" in text
    assert "encoder.Net" not in key_help(read_sources(None, []))
    text = key_help(read_sources(None, ["scene=[pooled,./peak.py:Peak]"]))
    assert "  Peak.times: float = 1.0\n      factor" in text
    assert "  pooled.how: str = mean+max\n" in text


def changed(text: str, *pairs: tuple[str, str]) -> str:
    """Return a text with replacements, each of which applies."""
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


OPTION = 'width: int = option(8, "width of the tokens", "dimensions", 4, 64)'


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("encoder=./none.py:Net", "there is no file none.py in"),
        ("encoder=/none/net.py:Net", "/none/net.py, the file of Net, cannot be read (No such file or directory)"),
        ("encoder=./net.py", "'./net.py' is not of the form path/to/file.py:Class"),
        ("encoder=./net.py:", "is not of the form path/to/file.py:Class"),
        ("encoder=./net.py:Nett", "net.py has no class Nett; it defines Net"),
        ("encoder=./loss.py:Distance", "Distance in"),
        ("objective=./net.py:Net", "is not a subclass of hear_ssl.objectives.base.Objective"),
        ("encoder={./net.py:Net: {widht: 8}}", "there is no config key 'encoder.Net.widht' (did you mean 'encoder.Net.width'?)"),
        ("encoder={./net.py:Net: {width: x}}", "encoder.Net.width: Value 'x' of type 'str' could not be converted to Integer"),
        ("encoder={./net.py:Net: {width: 100}}", "encoder.Net.width is 100; it must be at least 4 and at most 64 dimensions"),
        ("encoder.Net.width=8", "there is no encoder 'Net'"),
        ("encoder../net.py:Net.width=8", "has a file in its key; select the class by"),
        ("objective={./loss.py:Distance: {}, ./copy.py:Distance: {}}", "have the same class name; rename one of the classes"),
        ("objective={./ours.py:nt_xent: {}}", "has the name of one of hear_ssl's own classes; rename the class"),
    ],
)
def test_a_mistake_in_a_name_or_an_option_is_one_line(folder: Path, override: str, line: str) -> None:
    shutil.copy(folder / "loss.py", folder / "copy.py")
    (folder / "ours.py").write_text(LOSS.replace("Distance", "nt_xent"))
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, [override])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ([("class Net(", "class Net((")], "net.py, line 6 cannot be imported: SyntaxError"),
        ([("time_stride = 4", "time_stride = 4 / 0")], "net.py, line 11 cannot be imported: ZeroDivisionError"),
        ([("from torch", "import numpy\nfrom torch")], "net.py, line 3: imports numpy, which a wheel does not have"),
        ([("        super", "        import soundfile\n        super")], "net.py, line 14: imports soundfile"),
        ([("from torch", "from hear_ssl.files import sha256_of\nfrom torch")], "net.py, line 3: imports hear_ssl.files"),
        ([("from torch", "import hear_ssl.model\nfrom torch")], "line 3: write `from hear_ssl.model import ...`"),
        ([("    @dataclass(frozen=True)\n", "")], "Net.Options must be a class with @dataclass(frozen=True)"),
        ([(OPTION, "width: int")], "Options.width has no default"),
        ([(OPTION, "width: complex = 1j")], "Options: Unexpected type annotation"),
        ([(OPTION, 'width: int = "x"')], "Options: "),
        ([("n_mels, width)", "n_mels)"), ("(width,)", "(8,)"), ("n_mels, width,", "n_mels, 8,")], "does not accept its option width"),
        ([("n_mels, width)", "n_mels, width, depth)")], "Net.__init__ requires depth, which is neither one of its options nor n_mels"),
        ([(OPTION, OPTION + "\n        n_mels: int = 3")], "Net.Options.n_mels has a name that is given to every class of its kind"),
    ],
)
def test_a_mistake_in_an_encoders_file_is_one_line(folder: Path, pairs: list[tuple[str, str]], line: str) -> None:
    (folder / "net.py").write_text(changed(NET, *pairs))
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, ["encoder=./net.py:Net"])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ([("return [self.stem(features).transpose(1, 2)]", "return self.stem(features)")], "must return a list of tokens"),
        ([("4, stride=4)", "3, stride=3)")], "the encoder Net must return a list of tokens [(1, 8, 8)] for 8 tokens of silence"),
        ([("        self.layer_dims = (width,)\n", "")], "the encoder Net must set layer_dims"),
        (
            [("    time_stride = 4\n", "    time_stride = 4\n    halo_frames = 3\n")],
            "halo_frames and chunk_frames as multiples of time_stride",
        ),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_named_before_training(
    shards: Path, folder: Path, pairs: list[tuple[str, str]], line: str
) -> None:
    (folder / "net.py").write_text(changed(NET, *pairs))
    with pytest.raises(ValueError, match=r".") as caught:
        fit(tiny(shards, folder / "run", "encoder=./net.py:Net"), resume=False)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "overrides", "line"),
    [
        ('needs = {"masks"}', [], "objective.Distance learns from tokens that are left out; add keep to the augmentations of a view"),
        ('needs = {"colours"}', [], "objective.Distance needs 'colours'; what an objective can need is teacher, aligned"),
        ("views = 3", [], "objective.Distance compares 3 views; the config has 2: add some to views"),
        ('needs = {"aligned"}', [], "token by token, but views.1 shows another crop than views.0; set views.1.crop=0"),
        (
            'needs = {"aligned"}',
            ["views=[{crop: 1, augment: []}, {crop: 1, augment: [resize_crop]}]"],
            "resize_crop moves the time of views.1",
        ),
        (
            'needs = {"aligned"}',
            ["encoder=vit", "views=[{crop: 0, augment: [keep]}, {crop: 0}]"],
            "keep moves the time of views.0.augment.0",
        ),
    ],
)
def test_what_an_objective_requires_is_checked_when_the_config_is_read(
    folder: Path, attribute: str, overrides: list[str], line: str
) -> None:
    (folder / "loss.py").write_text(changed(LOSS, ("    def __init__", f"    {attribute}\n\n    def __init__")))
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, ["objective=./loss.py:Distance", *overrides])
    assert line in str(caught.value)
    assert load_config(None, ["objective={nt_xent: {}, ./loss.py:Distance: {weight: 0}}"]).objective["Distance"].options.weight == 0


def test_an_encoder_and_a_readout_of_one_name_are_refused(folder: Path) -> None:
    (folder / "other.py").write_text(READOUT.replace("class Peak", "class Net"))
    with pytest.raises(ValueError, match=r"other\.py:Net and .*net\.py:Net have the same class name; rename one of the classes"):
        load_config(None, ["encoder=./net.py:Net", "scene=[./other.py:Net]"])
    (folder / "both.py").write_text(NET + READOUT)
    config = load_config(None, ["encoder=./both.py:Net", "scene=[./both.py:Peak]"])
    assert set(config.own_parts()) == {"encoder.Net", "scene.Peak"}


def test_a_config_selects_readouts_and_changes_one_of_them(folder: Path) -> None:
    file = folder / "own.yaml"
    file.write_text("scene: [{pooled: {layers: 1}}, {./peak.py:Peak: {times: 2}}, bands]\ntimestamps_per_token: 2\n")
    config = load_config(file, ["scene.0.how=mean,std", "scene.1.Peak.times=3", "timestamp=[tokens,contexts]", "timestamp.1.ms=400"])
    assert [(part.name, getattr(part.options, "how", "")) for part in config.scene] == [("pooled", "mean,std"), ("Peak", ""), ("bands", "")]
    assert config.scene[0].options.layers == "1"
    assert config.scene[1].key == f"{folder}/peak.py:Peak"
    assert config.scene[1].options.times == 3.0
    assert config.timestamp[1].options.ms == (400.0,)
    assert config.own_parts() == {"scene.Peak": hashlib.sha256(READOUT.encode()).hexdigest()}
    assert [part.name for part in load_config(file, ["scene.0=Peak", "scene.1=bands"]).scene] == ["Peak", "bands", "bands"]
    assert [part.name for part in load_config(file, ["scene=[Peak]", "scene=pooled"]).scene] == ["pooled"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("scene.0.hw=mean", "scene.0.hw=mean: scene.0.pooled.hw is not known; allowed are layers, how"),
        ("scene.1.how=mean", "scene has no element 1: scene.0 is pooled; to add one give the whole list"),
        ("scene.0.how=[1]", "scene.0.pooled.how is [1]; it must be of type str"),
        (
            "scene.how=mean",
            "scene.how has no number; give a list of readouts, such as scene=[pooled], or change one as scene.0.OPTION=VALUE",
        ),
        (
            "timestamp.per_token=2",
            "there is no config key 'timestamp.per_token'; timestamp is a list of readouts, see docs/extend.md: times",
        ),
        ("scene=[]", "scene is an empty list; name at least one readout"),
        ("scene=3", "scene is 3; give a list of readouts"),
        ("scene=[3]", "scene.0 is 3; give a name, or one name with its options"),
        ("scene=[{pooled: {}, bands: {}}]", "give a name, or one name with its options"),
        ("scene=[pold]", "scene.0 is 'pold' (did you mean 'pooled'?); it can be pooled, bands, linear or path/to/file.py:Class"),
        ("scene=[tokens]", "scene.0 is 'tokens', which only timestamp can have; it can be pooled, bands, linear or"),
        ("timestamp=[./peak.py:Peak]", "timestamp.0 is Peak, which is for scene, see its kinds"),
        ("scene=[{./peak.py:Peak: {times: 9}}]", "scene.0.Peak.times is 9.0; it must be at least 0.5 and at most 4"),
        ("scene=[./peak.py:Peek]", "peak.py has no class Peek; it defines Peak"),
        ("scene=[./net.py:Net]", "is not a subclass of hear_ssl.model.readouts.base.Readout"),
        ("scene=[./none.py:Peak]", "there is no file none.py in"),
        ("scene=[./peak.py:Peak,./copy.py:Peak]", "have the same class name; rename one of the classes"),
    ],
)
def test_a_mistake_in_a_list_of_readouts_is_one_line(folder: Path, override: str, line: str) -> None:
    shutil.copy(folder / "peak.py", folder / "copy.py")
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, [override])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ([("import torch\n", "import numpy, torch\n")], "peak.py, line 3: imports numpy, which a wheel does not have"),
        ([('kinds = ("scene",)', 'kinds = "scene"')], "Peak.kinds is 'scene'; it must be a tuple of 'scene' and 'timestamp'"),
        ([('kinds = ("scene",)', 'kinds = ("clip",)')], "it must be a tuple of"),
        ([("    @dataclass(frozen=True)\n", "")], "Peak.Options must be a class with @dataclass(frozen=True)"),
        ([("n_mels, times)", "n_bands, times)"), ("n_mels, times\n", "n_bands, times\n")], "Peak.__init__ requires n_bands"),
        ([("self.width, self.times = n_mels, times", "self.times = times")], "scene.0.Peak: it must set width"),
        (
            [("amax(0) *", "amax(0)[:, 1:] *")],
            "scene.0.Peak: result must return embeddings (1, 64) for a clip of 7 tokens; it returned (1, 63)",
        ),
        (
            [("torch.stack(state).amax(0)", "torch.stack(state).mean(0)")],
            "scene.0.Peak: its result depends on where a clip is cut into chunks",
        ),
        ([("torch.stack(state).amax(0)", "state[0].log()")], "result has dimensions that are not finite"),
    ],
)
def test_a_mistake_in_a_readouts_file_is_one_line(folder: Path, pairs: list[tuple[str, str]], line: str) -> None:
    (folder / "peak.py").write_text(changed(READOUT, *pairs))
    with pytest.raises(ValueError, match=r".") as caught:
        Embedder(load_config(None, ["scene=[./peak.py:Peak]"]).embedder)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_readouts_file_that_changed_since_the_training_is_refused(shards: Path, folder: Path) -> None:
    run = folder / "run"
    fit(tiny(shards, run, "scene=[./peak.py:Peak]", "trainer.steps=2"), resume=False)
    assert embedder_from_checkpoint(run)[0].scene_embedding_size == 64
    (folder / "peak.py").write_text(READOUT + "\n")
    with pytest.raises(ValueError, match=r"trained with another version of the file of scene\.Peak"):
        fit(resumed_config(run, ["trainer.steps=3"]), resume=True)
    with pytest.raises(ValueError, match=r"peak\.py has changed since the training: its SHA-256 was \w+ and is"):
        embedder_from_checkpoint(run)
    (folder / "elsewhere").mkdir()
    (folder / "peak.py").unlink()
    (folder / "elsewhere" / "peak.py").write_text(READOUT)
    os.chdir(folder / "elsewhere")  # `folder` restores it
    assert fit(resumed_config(run, ["trainer.steps=3"]), resume=True) == 0


def test_an_encoder_that_cannot_drop_time_steps_is_refused_with_views_that_do(folder: Path) -> None:
    for encoder in ("audio_ntt", "convnext", "./net.py:Net"):
        with pytest.raises(ValueError, match=r"views.1 keeps some of the time steps, but the encoder .* encodes all; leave keep out"):
            load_config(None, [f"encoder={encoder}", "views=[{}, {augment: [keep]}]"])


def test_a_file_that_changed_since_the_training_is_refused(shards: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder / "run"
    own = ["encoder=./net.py:Net", "objective=./loss.py:Distance", "trainer.steps=2"]
    fit(tiny(shards, run, *own), resume=False)
    (folder / "loss.py").write_text(LOSS + "\n")
    with pytest.raises(ValueError, match=r"trained with another version of the file of objective\.Distance; restore that version"):
        fit(resumed_config(run, ["trainer.steps=3"]), resume=True)
    (folder / "loss.py").write_text(LOSS)
    (folder / "net.py").write_text(NET + "\n")
    with pytest.raises(ValueError, match=r"trained with another version of the file of encoder\.Net"):
        fit(resumed_config(run, ["trainer.steps=3"]), resume=True)
    request = PackageRequest(run / "checkpoints" / "last.ckpt", "hear_net", "0.1.0", "https://example.com/w", True, False, {}, True)
    for read in (lambda: embedder_from_checkpoint(run), lambda: package(request, folder / "dist")):
        with pytest.raises(
            ValueError, match=r"net\.py has changed since the training: its SHA-256 was \w+ and is \w+; restore the file of Net"
        ):
            read()
    assert not (folder / "dist").exists()
    (folder / "moved").mkdir()
    (folder / "net.py").unlink()
    with pytest.raises(ValueError, match=r"net\.py, the file of Net, cannot be read .*; put it back, or run in a folder with a copy of it"):
        embedder_from_checkpoint(run)
    (folder / "moved" / "net.py").write_text(NET)
    monkeypatch.chdir(folder / "moved")
    assert embedder_from_checkpoint(run)[0].scene_embedding_size == 8
    assert fit(resumed_config(run, ["trainer.steps=3"]), resume=True) == 0


def test_a_checkpoint_names_no_code_without_its_hash(shards: Path, folder: Path) -> None:
    fit(tiny(shards, folder / "run", "encoder=./net.py:Net", "trainer.steps=1"), resume=False)
    path = folder / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    (folder / "evil.py").write_text("open('executed', 'w')\n" + NET)
    checkpoint["config"]["encoder"] = {f"{folder}/evil.py:Net": {"width": 8}}
    for parts in ({}, {"encoder.Net": ""}, {"encoder.Net": 3}, checkpoint["parts"], None):
        torch.save({**checkpoint, "parts": parts}, folder / "evil.ckpt")
        with pytest.raises(ValueError, match=r"so it was not imported|has changed since the training"):
            embedder_from_checkpoint(folder / "evil.ckpt")
    assert not (folder / "executed").exists()


def test_imports_of_the_model_become_the_wheels_own_and_nothing_else_changes() -> None:
    source = b'''"""Text on hear_ssl.model stays."""
from hear_ssl.model import Encoder, option
import hear_ssl.model.options as options, math
import torch  # of hear_ssl.model
from hear_ssl . model.encoders.base import (
    Encoder as Base,
)
NAME = "hear_ssl.model"
def later():
    from hear_ssl.model.bands import hz_to_mel; return hz_to_mel
'''
    check_imports(Path("a.py"), source)
    assert with_own_package(source, "hear_x") == (
        source.replace(b"from hear_ssl.model", b"from hear_x")
        .replace(b"import hear_ssl.model.options", b"import hear_x.options")
        .replace(b"from hear_ssl . model.", b"from hear_x.")
    )


@pytest.mark.parametrize(
    ("code", "python"),
    [
        ("x = 1", (3, 8)),
        ("match 1:\n    case 2: pass", (3, 10)),
        ("import tomllib", (3, 11)),
        ("'a'.removeprefix('b')", (3, 9)),
        ("def f(x: int | None = None): pass", (3, 10)),
        ("from __future__ import annotations\ndef f(x: int | None, *y: list[int]) -> int | None: z: int | None = 3", (3, 8)),
        ("from __future__ import annotations\nclass A:\n    class Options:\n        a: int | None = None", (3, 10)),
        ("from __future__ import annotations\nclass A:\n    class Options:\n        a: tuple[int, ...] = ()", (3, 9)),
        ("import torch\ndef f(x):\n    return (x > 3) | (x < 2)", (3, 8)),
    ],
)
def test_the_python_that_a_file_needs_is_the_oldest_that_runs_it(code: str, python: tuple[int, int]) -> None:
    assert oldest_python(Path("a.py"), code.encode()) == python


PROJECT = """
from hear_ssl.training.config import load_config
from hear_ssl.training.config_parts import config_keys
from hear_ssl.training.module import PretrainingModule
config = load_config(None, ["encoder.net.width=16", "objective.distance.power=3"])
assert {"encoder.net.width", "objective.distance.power", "objective.distance.weight"} <= set(config_keys())
module = PretrainingModule(config)
assert module.embedder.encoder.layer_dims == (16,)
assert list(module.objective.terms) == ["distance"]
from hear_ssl.training.parts_table import page
assert "| `objective.distance.power` float | `2.0` |" in page()
"""
ENTRIES = {  # file, its class and its short name: the lines that an __init__ gains, after these of it
    "model/encoders/__init__.py": ("from .base import Encoder\n", "from .net import Net\n", '"vit": ViT}', '"vit": ViT, "net": Net}'),
    "objectives/__init__.py": (
        "from hear_ssl.objectives.encoded import Encoded\n",
        "from hear_ssl.objectives.distance import Distance\n",
        '    "pitch": PitchEquivariance,\n',
        '    "pitch": PitchEquivariance,\n    "distance": Distance,\n',
    ),
}


@pytest.mark.slow
def test_the_project_gains_a_class_by_one_file_and_its_import_and_entry(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "hear_ssl", tmp_path / "hear_ssl", ignore=shutil.ignore_patterns("__pycache__"))
    own = "from .base import Encoder\nfrom ..options import option"
    (tmp_path / "hear_ssl/model/encoders/net.py").write_text(changed(NET, ("from hear_ssl.model import Encoder, option", own)))
    (tmp_path / "hear_ssl/objectives/distance.py").write_text(
        changed(LOSS, ("from hear_ssl.objectives import Objective, option", "from hear_ssl.model.options import option")).replace(
            "from dataclasses", "from hear_ssl.objectives.base import Objective\nfrom dataclasses"
        )
    )
    for file, (after, added, entry, with_entry) in ENTRIES.items():
        path = tmp_path / "hear_ssl" / file
        path.write_text(changed(path.read_text(), (after, after + added), (entry, with_entry)))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROJECT], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    text = (ROOT / "docs" / "extend.md").read_text()
    for row in (f"| {part} | 1: its file | 2: its file in" for part in ("an objective", "an encoder", "a readout")):
        assert row in text


def test_the_page_of_encoders_and_objectives_is_current() -> None:
    assert (ROOT / "docs" / "parts.md").read_text() == page(), "run python -m hear_ssl.training.parts_table > docs/parts.md"


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, parts in OURS.items() for name in parts])
def test_a_class_of_ours_has_the_defaults_of_its_options_as_keywords(section: str, name: str) -> None:
    kind = OURS[section][name]
    parameters = inspect.signature(kind).parameters
    check_signature(kind, OFFERED[section])
    options = {item.name: item.default for item in fields(options_of(kind))}
    assert {key: parameters[key].default for key in options} == options
    assert set(parameters) - set(options) <= set(OFFERED[section])
