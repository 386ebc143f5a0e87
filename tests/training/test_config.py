"""The config: defaults, YAML, overrides, and one clear line for each mistake."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hear_ssl.data.options import CropConfig
from hear_ssl.model.embedder_config import EmbedderConfig, embedder_config, encoder, readout
from hear_ssl.model.options import to_mapping
from hear_ssl.training.config import Config, load_config
from hear_ssl.training.config_parts import config_keys
from tests.conftest import ROOT


def test_defaults_yaml_and_overrides_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: {batch_size: 32, crops: [{count: 1}]}\n")
    config = load_config(file, ["data.crops.0.count=2", "data.shards=[a,b]"])
    assert (config.data.batch_size, config.data.crops, config.data.shards) == (32, [CropConfig(2.08, 2)], ["a", "b"])
    assert config.trainer == Config().trainer


def test_a_switch_is_set_back_by_null() -> None:
    assert load_config(None, ["speed.compile=true", "speed.compile=null"]).speed.compile is None


def test_one_folder_needs_no_brackets() -> None:
    assert load_config(None, ["data.shards=one"]).data.shards == ["one"]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_loads_and_says_what_it_is(file: Path) -> None:
    assert load_config(file, []).name == file.stem
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.batchsize=3", "did you mean 'data.batch_size'"),
        ("batch_sise=3", "did you mean 'data.batch_size'"),
        ("data.crops.1.seconds=1", "there is no element 1 of 1, numbered from 0"),
        ("data.crops.0.second=1", "there is no config key 'second'"),
        ("data.crops=[{seconds: 0}]", "data.crops[0].seconds is 0.0; it must be at least 0.05"),
        ("data.batch_size=many", "data.batch_size"),
        ("data.batch_size=0", "it must be at least 2"),
        ("trainer.precision=fp8", "allowed are 32, bf16"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate is nan"),
        ("data", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("data=3", "a group of keys cannot be one value"),
        ("trainer.steps={a: 1}", "trainer.steps"),
        *((override, "cannot be read") for override in ("data.shards=[a", "name={", "name=%s", "data.shards=@x", "data.shards='")),
        *((override, "cannot be read") for override in ("data.shards=*x", "data.shards={a: b}", "name=" + "[" * 3000)),
        ("name=${nope}", "Interpolation key 'nope' not found"),
        ("data.shards=!!python/object/apply:os.getcwd []", "cannot be read"),
        ("beside=[{context: 2}]", "there is no config key 'beside'"),
        ("embedder.encoder.dim=3", "there is no config key 'embedder'; the keys under it are frontend, encoder, scene"),
        ("encoder.dim=3", "there is no encoder 'dim' (did you mean 'encoder.audio_ntt.dim'?)"),
        ("encoder.vit.dimm=3", "there is no config key 'encoder.vit.dimm' (did you mean 'encoder.vit.dim'?)"),
        ("encoder=resnet", "there is no encoder 'resnet'; it can be audio_ntt, convnext, vit or path/to/file.py:Class"),
        ("encoder={vit: {}, convnext: {}}", "encoder names vit, convnext; name one"),
        ("encoder=", "encoder is None; name a class, such as encoder=audio_ntt"),
        ("encoder.vit=3", "encoder.vit is 3; give options by name, or {} for the defaults"),
        ("objective.nt_xnt.weight=1", "there is no objective 'nt_xnt' (did you mean 'nt_xent'?)"),
        ("objective.byol.weight=-1", "objective.byol.weight is -1.0; it must be at least 0"),
        ("objective.byol.weight=x", "objective.byol.weight: Value 'x' of type 'str' could not be converted to Float"),
        ("objective=3", "objective is 3; name a class, such as objective=nt_xent"),
        ("data.shards=[[a]]", "data.shards is [['a']]; give a plain list, such as data.shards=[a,b]"),
        ("data.shards=", "'data.shards=' gives no value; leave data.shards out"),
        ("name=???", "'name=???' gives no value; leave name out"),
    ],
)
def test_a_mistake_names_the_key_and_the_way_out(override: str, line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, [override])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("a: [1, 2\nb: }")
    with pytest.raises(ValueError, match=r"bad.yaml is not YAML"):
        load_config(file, [])
    for text in ("a: " + "[" * 5000, "name: !!set {a}", "name: ${nope}"):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"bad.yaml.*") as caught:
            load_config(file, [])
        assert "\n" not in str(caught.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bad.yaml"):
        load_config(file, [])


@pytest.mark.slow
def test_a_config_reaches_another_process() -> None:
    script = "import pickle, sys; print(list(pickle.load(sys.stdin.buffer).objective))"
    content = pickle.dumps(load_config(ROOT / "configs" / "clip_frame_pitch.yaml", []))
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, cwd=ROOT)
    assert done.stdout.decode().strip() == "['nt_xent', 'frame', 'pitch']", done.stderr.decode()


def test_every_key_has_a_meaning() -> None:
    keys = config_keys()
    assert len(keys) > 60
    assert all(item.metadata.get("help") for _, item in keys.values())


def test_the_embedder_survives_the_way_through_json() -> None:
    readouts = (readout("tokens"), readout("around", ms=(100.0,)))
    for config in (EmbedderConfig(), EmbedderConfig(encoder=encoder("vit", depth=2), timestamp=readouts, timestamps_per_token=2)):
        assert embedder_config(json.loads(json.dumps(to_mapping(config))), "embedder") == config
