"""`graphopt compile` when all is well, with each of its options, and when what was asked for does not hold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import tiny
from commands import CACHE, done, graphopt, refused
from mutants import MUTANTS
from onnx import helper
from tiny import F, info, model, node, random, weight

import graphopt as gp
from graphopt.passes import pipeline
from graphopt.rewrite.record import schema

BLOCK = {"Conv": 2, "BatchNormalization": 2, "Relu": 1, "Identity": 1}


def norm(name: str, channels: int) -> list[onnx.TensorProto]:
    mean = random(channels, seed=3)
    return [weight(f"{name}_{k}", v) for k, v in (("s", mean + 2), ("b", mean), ("m", mean), ("v", mean**2 + 1))]


def block(read_between: bool = False, opset: int = 17) -> onnx.ModelProto:
    """Conv, BN, Relu, Identity, Conv, BN; with `read_between` the second BN cannot be folded."""
    outputs = [info("y", F, ["N", 2, 8, 8])]
    return model(
        [
            node("Conv", "x w1", "a", "conv1", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "a n_s n_b n_m n_v", "b", "bn1"),
            node("Relu", "b", "c", "relu1"),
            node("Identity", "c", "d", "same"),
            node("Conv", "d w2", "e", "conv2"),
            node("BatchNormalization", "e o_s o_b o_m o_v", "y", "bn2"),
        ],
        [info("x", F, ["N", 3, 8, 8])],
        [*outputs, info("e")] if read_between else outputs,
        [weight("w1", random(4, 3, 3, 3)), weight("w2", random(2, 4, 1, 1)), *norm("n", 4), *norm("o", 2)],
        opset=opset,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny.save(block(), tmp_path, "model")


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """A model of which one normalization stays."""
    return tiny.save(block(read_between=True), tmp_path, "stubborn")


def compiled(source: object, *options: object) -> tuple[dict, onnx.ModelProto]:
    """What `compile --json` says, and the file that it wrote, checked."""
    output = Path(source).with_name("compiled.onnx")
    said = json.loads(done("compile", source, "-o", output, "--json", *options))
    proto = onnx.load(output)
    onnx.checker.check_model(proto)
    return said, proto


def operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in proto.graph.node)


def test_the_main_job(source, tmp_path):
    output = tmp_path / "out.onnx"
    said = done("compile", source, "-o", output)
    assert operators(onnx.load(output)) == {"Conv": 2, "Relu": 1}
    assert "fold_affine" in said
    assert "against float64" in said
    assert f"\nverified: {output} (" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "out.onnx"]


def test_nothing_to_do_is_said(tmp_path):
    output = tmp_path / "out.onnx"
    assert "no rewrite was made" in done("compile", "zoo:lenet5", "-o", output)
    assert sum(operators(onnx.load(output)).values()) == 12


# ---- options


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--level", "O0"], BLOCK),
        (["--level", "O1"], {"Conv": 2, "Relu": 1}),
        (["--level", "O2"], {"Conv": 2, "Relu": 1}),
        (["--target", "portable"], {"Conv": 2, "Relu": 1}),
        (["--target", "cpu"], {"Conv": 1, "FusedConv": 1}),
        (["--target", "cpu", "--skip", "fuse_conv_activation"], {"Conv": 2, "Relu": 1}),
        (["--passes", "normalize"], {"Conv": 2, "BatchNormalization": 2, "Relu": 1}),
        (["--passes", "normalize,fold_batch_norm"], {"Conv": 2, "Relu": 1}),
        (["--passes", "normalize", "--passes", "fold_batch_norm"], {"Conv": 2, "Relu": 1}),
        (["--passes", "fold_batch_norm"], {"Conv": 2, "Relu": 1, "Identity": 1}),
        (["--level", "O0", "--also", "fold_batch_norm"], {"Conv": 2, "Relu": 1, "Identity": 1}),
        (["--skip", "fold_batch_norm"], {"Conv": 2, "BatchNormalization": 2, "Relu": 1}),
        (["--skip", "fold_affine"], {"Conv": 2, "BatchNormalization": 2, "Relu": 1}),
        (["--skip", "fold_affine,normalize"], BLOCK),
        (["--skip", "fold_affine", "--skip", "does_nothing"], BLOCK),
    ],
    ids=" ".join,
)
def test_what_runs(source, options, left):
    said, proto = compiled(source, *options)
    assert operators(proto) == left
    assert said["before"]["operators"] == BLOCK
    assert Counter(k.rpartition("::")[2] for k in said["after"]["operators"]) == Counter(left.keys())
    assert said["verified"]["equal"]


@pytest.mark.parametrize("option", ["--passes", "--also"])
def test_a_rule_alone_cannot_be_chosen(source, option):
    ended = graphopt("compile", source, "-o", source.with_name("out.onnx"), option, "fold_affine")
    assert ended.code == 2
    assert "fold_batch_norm" in ended.err


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_opset(source, opset):
    said, proto = compiled(source, "--opset", opset)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    assert said["options"]["opset"] == opset
    assert said["verified"]["equal"]


def test_the_opset_is_the_models_own_by_default(source):
    said, proto = compiled(source)
    assert proto.opset_import[0].version == 17
    assert "opset" not in said["options"]


def test_shapes(source):
    said, _ = compiled(source, "--shapes", "N=2,5")
    assert {c["shapes"]["N"] for c in said["verified"]["cases"]} == {2, 5}
    said, _ = compiled(source)
    assert {c["shapes"]["N"] for c in said["verified"]["cases"]} == {1, 3}


def test_no_verify(source):
    output = source.with_name("out.onnx")
    assert f"not verified: {output}" in done("compile", source, "-o", output, "--no-verify")
    said, _ = compiled(source, "--no-verify")
    assert said["verified"] is None


@pytest.mark.parametrize("check", ["sample", "every", "off"])
def test_check(source, tmp_path, check):
    record = tmp_path / "record.json"
    said, _ = compiled(source, "--check", check, "--record", record)
    assert said["options"]["check"] == check
    checked = [a["checked"] for a in json.loads(record.read_text())["applied"] if a["rule"] == "fold_affine"]
    assert len(checked) == 2
    assert (any(checked), all(checked)) == {"sample": (True, all(checked)), "every": (True,) * 2}.get(
        check, (False,) * 2
    )


def test_max_growth(tmp_path):
    """A weight with two readers is copied to fold a normalization, if 1.4 MB more are allowed."""
    source = tiny.save(
        model(
            [
                node("Conv", "x w", "a"),
                node("BatchNormalization", "a n_s n_b n_m n_v", "b"),
                node("Conv", "b w", "y"),
            ],
            [info("x", F, ["N", 600, 1, 1])],
            [info("y")],
            [weight("w", random(600, 600, 1, 1) / 24), *norm("n", 600)],
        ),
        tmp_path,
        "model",
    )
    said, proto = compiled(source)
    assert operators(proto)["BatchNormalization"] == 1
    assert said["missed"][0]["rule"] == "fold_affine"
    assert "growth budget" in said["missed"][0]["reason"]
    for allowed in ("inf", "2"):
        said, proto = compiled(source, "--max-growth", allowed)
        assert operators(proto) == {"Conv": 2}
        assert said["missed"] == []


def test_keep_functions(tmp_path):
    opsets = [helper.make_opsetid("", 17)]
    double = helper.make_function("local", "Double", ["a"], ["b"], [node("Add", "a a", "b")], opsets)
    proto = model([helper.make_node("Double", ["x"], ["y"], name="twice", domain="local")], [info("x", F, [2])],
                  [info("y", F, [2])], functions=[double])  # fmt: skip
    source = tiny.save(proto, tmp_path, "model")
    _, plain = compiled(source)
    assert (operators(plain), len(plain.functions)) == ({"Add": 1}, 0)
    said, kept = compiled(source, "--keep-functions")
    assert (operators(kept), len(kept.functions)) == ({"Double": 1}, 1)
    assert said["options"]["keep_functions"] is True


def test_record(stubborn, tmp_path):
    """The record fits its schema and leads to the same bytes again."""
    output, record, again = (tmp_path / name for name in ("out.onnx", "record.json", "again.onnx"))
    done("compile", stubborn, "-o", output, "--record", record, "--opset", "13", "--target", "cpu")
    data = json.loads(record.read_text(encoding="utf-8"))
    jsonschema.validate(data, schema())
    assert [m["label"] for m in data["missed"]] == ["bn2"]
    loaded = gp.load_record(record.read_text(encoding="utf-8"))
    gp.save(gp.replay(gp.load(stubborn), loaded), again, opset=data["options"]["opset"])
    assert again.read_bytes() == output.read_bytes()


def test_explain(stubborn, tmp_path):
    output, record = tmp_path / "out.onnx", tmp_path / "record.json"
    said = done("compile", stubborn, "-o", output, "--explain", "--record", record)
    assert said.startswith("From the source: 6 nodes\n")
    assert gp.explain(gp.load_record(record.read_text(encoding="utf-8"))) in said
    assert "not done: fold_affine: " in said
    assert f"\nrecord: {record}\n" in said
    assert "verified: " in said
    told, _ = compiled(stubborn, "--explain")
    assert told["explanation"] in said


def test_json(stubborn):
    """One document, and nothing else, on standard output."""
    said, proto = compiled(stubborn)
    assert list(said) == ["model", "output", "refused", "bytes", "seconds", "options", "before", "after", "applied",
                          "missed", "quarantined", "notes", "verified"]  # fmt: skip
    assert said["refused"] is None
    assert said["bytes"] == stubborn.with_name("compiled.onnx").stat().st_size
    assert said["after"]["nodes"] == len(proto.graph.node)
    assert {"pass": "fold_batch_norm", "rule": "fold_affine", "class": "rounding", "times": 1} in said["applied"]
    (missed,) = said["missed"]
    assert (missed["pass"], missed["rule"], missed["node"]) == ("fold_batch_norm", "fold_affine", "bn2")
    assert set(missed["worth"]) == {"nodes", "macs", "bytes"}


def test_same_input_same_bytes(source):
    first = compiled(source)[1].SerializeToString()
    assert compiled(source)[1].SerializeToString() == first


# ---- what was asked for does not hold


@pytest.mark.parametrize("expect", ["bn=0", "BN=0", "BatchNormalization=0", "bn=0,Conv=2", "FusedConv=0", "LSTM=0"])
def test_expect_met(source, expect):
    assert compiled(source, "--expect", expect)[0]["refused"] is None


def kept_result(sentence: str) -> Path:
    """The folder that a refusal names, with the result and its record in it."""
    folder = Path(sentence.rpartition(" are in ")[2])
    onnx.checker.check_model(onnx.load(folder / "result.onnx"))
    jsonschema.validate(json.loads((folder / "record.json").read_text(encoding="utf-8")), schema())
    return folder


def test_expect_not_met(stubborn, tmp_path):
    output, record = tmp_path / "out.onnx", tmp_path / "record.json"
    output.write_bytes(b"what stood here")
    sentence = refused("compile", stubborn, "-o", output, "--expect", "bn=0", "--record", record, code=1)
    assert sentence.startswith(f"{stubborn}: 0 BatchNormalization expected, 1 left: fold_affine at `bn2`: ")
    assert output.read_bytes() == b"what stood here"
    jsonschema.validate(json.loads(record.read_text(encoding="utf-8")), schema())
    folder = kept_result(sentence)
    assert folder == tmp_path / "record-reproducers" / "refused-out"
    assert operators(onnx.load(folder / "result.onnx"))["BatchNormalization"] == 1


def test_expect_not_met_without_a_record(stubborn, tmp_path):
    before = sorted(tmp_path.iterdir())
    sentence = refused("compile", stubborn, "-o", tmp_path / "out.onnx", "--expect", "bn=0", code=1)
    assert kept_result(sentence) == CACHE / "reproducers" / "refused-out"
    assert sorted(tmp_path.iterdir()) == before


def test_expect_not_met_in_json(stubborn, tmp_path):
    ended = graphopt("compile", stubborn, "-o", tmp_path / "out.onnx", "--expect", "bn=0", "--json")
    assert ended.code == 1
    said = json.loads(ended.out)
    assert ended.err == f"graphopt: {said['refused']}\n"
    assert (said["bytes"], said["verified"]) == (0, None)
    assert said["missed"]


def test_expect_of_no_operator(source, tmp_path):
    """A misspelt name would be met by any model."""
    assert "'BatchNorm'" in refused("compile", source, "-o", tmp_path / "out.onnx", "--expect", "BatchNorm=0")
    assert not (tmp_path / "out.onnx").exists()


WRONG = next(m for m in MUTANTS if m.id == "fold_affine-bias_sign")


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model on which the pipeline, with a rule spoiled, goes wrong."""
    spoiled = tuple(WRONG.run_as() if p.name == WRONG.pass_name else p for p in pipeline.SIMPLIFY)
    monkeypatch.setattr(pipeline, "SIMPLIFY", spoiled)
    path = tmp_path / "model.onnx"
    gp.save(gp.parse(WRONG.graph), path)
    return path


@pytest.mark.parametrize("with_record", [True, False])
def test_a_wrong_result(wrong, tmp_path, with_record):
    output, record = tmp_path / "out.onnx", tmp_path / "record.json"
    output.write_bytes(b"what stood here")
    options = ["--record", record] if with_record else []
    sentence = refused("compile", wrong, "-o", output, "--check", "off", *options, code=1)
    assert sentence.startswith(f"{wrong}: the output `y` differs on normal inputs with N=1: ")
    assert "the first value that parts is `y`, touched by fold_affine" in sentence
    assert output.read_bytes() == b"what stood here"
    assert record.exists() == with_record
    folder = kept_result(sentence)
    assert folder == (tmp_path / "record-reproducers" if with_record else CACHE / "reproducers") / "refused-out"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    assert not gp.verify(wrong, folder / "result.onnx").equal


def test_a_wrong_result_in_json(wrong, tmp_path):
    ended = graphopt("compile", wrong, "-o", tmp_path / "out.onnx", "--check", "off", "--json")
    assert ended.code == 1
    said = json.loads(ended.out)
    assert said["verified"]["equal"] is False
    assert said["verified"]["suspect"]["rules"] == ["fold_affine"]


def test_a_wrong_rule_is_quarantined(wrong, tmp_path):
    """With the engine's own check the same rule is found out, and the result is right without it."""
    output = tmp_path / "out.onnx"
    said = done("compile", wrong, "-o", output)
    line = next(line for line in said.splitlines() if line.startswith("quarantined: fold_affine"))
    assert Path(line.rpartition("reproducer in ")[2], "why.txt").is_file()
    assert operators(onnx.load(output))["BatchNormalization"] == 1
    told, _ = compiled(wrong, "--record", tmp_path / "record.json")
    (entry,) = told["quarantined"]
    assert Path(entry["reproducer"]).parent == tmp_path / "record-reproducers"


def test_a_model_that_no_shapes_fit(tmp_path):
    source = tiny.save(
        model([node("Reshape", "x s", "y")], [info("x", F, ["N", 7])], [info("y")],
              [weight("s", np.array([7 * 11, 13]))]), tmp_path, "model",
    )  # fmt: skip
    output = tmp_path / "out.onnx"
    assert "--shapes" in refused("compile", source, "-o", output, code=1)
    assert not output.exists()
    done("compile", source, "-o", output, "--shapes", "N=143")


# ---- paths


@pytest.mark.parametrize("name", ["out.onnx", "a folder/ö ut [x].onnx", "without_suffix", "./a folder/../b.onnx"])
def test_output_paths(source, tmp_path, monkeypatch, name):
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert f"verified: {Path(name)} " in done("compile", source.name, "-o", name)
    onnx.checker.check_model(onnx.load_from_string(Path(name).read_bytes()))


def test_a_model_with_an_odd_name(source, tmp_path):
    odd = source.rename(tmp_path / "[red] mödel [b.onnx")
    assert f"{odd}\n" in done("compile", odd, "-o", tmp_path / "out.onnx")


def test_in_place(source):
    done("compile", source, "-o", source)
    assert operators(onnx.load(source)) == {"Conv": 2, "Relu": 1}
    assert [p.name for p in source.parent.iterdir()] == ["model.onnx"]


def test_links_are_followed(source, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out.onnx").symlink_to(tmp_path / "real" / "file.onnx")
    (tmp_path / "in.onnx").symlink_to(source)
    done("compile", tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").is_symlink()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["file.onnx"]
