"""The command line as a whole, and the commands that look: `inspect`, `passes`, `text`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from commands import done, graphopt, refused, subprocess_graphopt
from tiny import F, info, model, node, random, weight

import graphopt as gp
from graphopt.cli.app import COMMANDS
from graphopt.passes.pipeline import PASSES, RULES

# ---- help, version, exit codes


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command):
    said = done(command, "--help")
    examples = said.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.strip().startswith(f"graphopt {command}") for line in examples)
    assert done(command, "-h") == said
    assert all(len(line) <= 100 for line in said.splitlines())


def test_help_lists_the_commands():
    said = done("--help")
    assert "Examples:" in said
    assert "Exit codes: 0 done; 1 " in " ".join(said.split())
    for command, about in COMMANDS.items():
        assert f"  {command}" in said
        assert about in said


def test_version():
    assert done("--version") == f"graphopt, version {gp.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["compil"], ["--bogus"], ["compile"], ["compile", "zoo:lenet5"], ["inspect"], ["inspect", "a", "b"],
     ["verify", "a"], ["compile", "m", "-o"], ["compile", "m", "-o", "o", "--level", "O3"],
     ["compile", "m", "-o", "o", "--target", "gpu"], ["compile", "m", "-o", "o", "--check", "often"],
     ["compile", "m", "-o", "o", "--opset", "new"], ["compile", "m", "-o", "o", "--max-growth", "0.5"],
     ["compile", "m", "-o", "o", "--expect", "bn"], ["compile", "m", "-o", "o", "--passes", ","],
     ["run", "m", "--target", "portable"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_told_on_stderr(words):
    ended = graphopt(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(("Usage: graphopt", "Error: "))


# ---- pipes, terminals, interrupts


@pytest.mark.parametrize("command", [["compile", "-o", "out.onnx"], ["run"], ["inspect"]], ids=lambda c: c[0])
def test_nothing_but_the_result_on_a_pipe(tmp_path, command):
    ended = subprocess_graphopt(command[0], "zoo:lenet5", *command[1:], cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert all(line == line.rstrip() for line in ended.out.splitlines())


def test_a_long_reason_is_one_line_on_a_pipe():
    """So that a search through the output finds it."""
    assert all(p.doc.strip().splitlines()[0] in done("passes") for p in PASSES.values())


def on_a_terminal(*words: object, width: int = 80) -> tuple[int, bytes, bytes]:
    """Exit code, standard output on a pipe, standard error on a terminal."""
    fcntl, pty, struct, termios = (pytest.importorskip(m) for m in ("fcntl", "pty", "struct", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    command = [sys.executable, "-m", "graphopt", *map(str, words)]
    env = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        told = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not part:
                break
            told += part
        os.close(ours)
        assert process.stdout is not None
        return process.wait(), process.stdout.read(), told


def test_progress_on_a_terminal(tmp_path):
    output = tmp_path / "[red] out.onnx"
    code, out, told = on_a_terminal("compile", "zoo:lenet5", "-o", output, width=200)
    assert code == 0
    assert f"verified: {output}".encode() in out
    assert b"\x1b" not in out
    assert b"verifying: the original against the result in ONNX Runtime" in told
    assert told.rstrip().endswith(b"\x1b[2K")  # the line is gone at the end


def test_a_name_that_looks_like_markup(tmp_path):
    path = tmp_path / "[" / "b] x.onnx"
    path.parent.mkdir()
    tiny.save(tiny.network(), path.parent, path.stem)
    code, out, _ = on_a_terminal("inspect", path)
    assert code == 0
    assert out.decode().startswith(f"{path}\n")
    code, _, told = on_a_terminal("compile", tmp_path / "[" / "missing.onnx", "-o", tmp_path / "o.onnx")
    assert code == 2
    assert b"there is no such file" in b" ".join(told.split())


INTERRUPTED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
from graphopt import api
def interrupted(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
api.verify_result = interrupted
from graphopt.cli.app import main
main()
"""


def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    output = tmp_path / "out.onnx"
    output.write_bytes(b"what stood here")
    words = ["compile", "zoo:lenet5", "-o", output, "--record", tmp_path / "record.json"]
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, check=False,
                           timeout=60)  # fmt: skip
    assert ended.returncode == 128 + signal.SIGINT == 130
    assert ended.stdout == ""
    assert ended.stderr.strip() == "graphopt: interrupted; nothing was left half written"
    assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]
    assert output.read_bytes() == b"what stood here"


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
@pytest.mark.parametrize("command", [["text"], ["inspect", "--layers"], ["inspect", "--json"]], ids=" ".join)
def test_output_that_nobody_reads(command):
    """A reader that has gone (`| head`) is no failed verification, and no trace of Python is shown."""
    ours, theirs = os.pipe()
    os.close(ours)
    words = [sys.executable, "-m", "graphopt", *command, "zoo:lenet5"]
    ended = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(theirs)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_on_a_full_disk():
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "graphopt", "text", "zoo:lenet5"]
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "No space left" in ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
def test_closed_streams(tmp_path):
    """As a service may call it: without standard output and standard error."""
    words = f'"{sys.executable}" -m graphopt compile zoo:lenet5 -o "{tmp_path / "out.onnx"}" >&- 2>&-'
    assert subprocess.run(words, shell=True, check=False, timeout=60).returncode == 0
    assert gp.load(tmp_path / "out.onnx")


def test_an_encoding_without_the_characters(tmp_path):
    path = tiny.save(tiny.network(), tmp_path, "模型")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "graphopt", "inspect", path]
    ended = subprocess.run(words, capture_output=True, encoding="latin-1", check=False, timeout=60, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\u6a21\\u578b.onnx" in ended.stdout


# ---- inspect


def inspected(source: object) -> dict:
    return json.loads(done("inspect", source, "--json"))


def test_inspect_lenet5():
    """28² × 6 × 5² and so on, by hand."""
    found = inspected("zoo:lenet5")
    conv = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25, 120 * 16 * 25
    assert found["macs"] == sum(conv) + 120 * 84 + 84 * 10 == 416_520
    assert found["parameters"] == (6 * 26) + 16 * (6 * 25 + 1) + 120 * (16 * 25 + 1) + 84 * 121 + 10 * 85 == 61_706
    assert found["buffers"] == 0
    kept = 32 * 32, 6 * 28 * 28, 6 * 14 * 14, 16 * 10 * 10, 16 * 5 * 5, 120, 84, 10
    assert found["activations"] == sum(kept) == 9_118
    assert found["activation_bytes"] == 4 * 9_118
    assert [x["macs"] for x in found["layers"] if x["op"] == "Conv"] == list(conv)
    assert sum(x["macs"] for x in found["layers"]) == found["macs"]
    assert sum(x["parameters"] for x in found["layers"]) == found["parameters"]


def test_inspect_resnet18():
    found = inspected("zoo:resnet18")
    macs, parameters, channels, kept = (
        112 * 112 * 64 * 147,
        64 * 147,
        [64],
        [3 * 224 * 224, 64 * 112 * 112, 64 * 56 * 56],
    )

    def conv(inputs: int, outputs: int, kernel: int, side: int) -> None:
        nonlocal macs, parameters
        macs += side * side * outputs * inputs * kernel * kernel
        parameters += outputs * inputs * kernel * kernel
        channels.append(outputs)
        kept.append(outputs * side * side)

    for stage, (width, side) in enumerate([(64, 56), (128, 28), (256, 14), (512, 7)]):
        narrow = width // 2 if stage else width
        conv(narrow, width, 3, side)
        for _ in range(3):
            conv(width, width, 3, side)
        if stage:
            conv(narrow, width, 1, side)
    assert found["macs"] == macs + 512 * 1000 == 1_814_073_344
    assert found["parameters"] == parameters + 2 * sum(channels) + 513 * 1000 == 11_689_512
    assert found["buffers"] == 2 * sum(channels) == 9_600
    assert found["activations"] == sum(kept) + 512 + 1000
    assert found["activation_bytes"] == 4 * found["activations"]
    assert found["operators"]["Conv"] == len(channels) == 20


def test_inspect_keys(tmp_path):
    path = tiny.save(tiny.network(), tmp_path, "model")
    found = inspected(path)
    wanted = ["parameters", "buffers", "macs", "activations", "activation_bytes", "layers", "inputs", "outputs",
              "opsets", "operators", "odd", "bound"]  # fmt: skip
    assert set(wanted) <= set(found)
    assert set(found["layers"][0]) >= {"name", "op", "output_shape", "parameters", "macs", "activations"}
    assert (found["model"], found["file_bytes"]) == (str(path), path.stat().st_size)
    assert found["inputs"]["x"].startswith("f32[N, 3, H")


def test_inspect_text(tmp_path):
    proto = model([node("Relu", "x", "y", "relu")], [info("x", F, ["N", 4])], [info("y", F, ["N", 4])],
                  [weight("unread", random(3))])  # fmt: skip
    path = tiny.save(proto, tmp_path, "model")
    said = done("inspect", path, "--layers")
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert rows["inputs"] == ["x:", "f32[N,", "4]"]
    assert rows["opset"] == ["ai.onnx", "17"]
    assert rows["nodes"] == ["1"]
    assert rows["Relu"] == ["1"]
    assert rows["relu"][:3] == ["Relu", "[N,", "4]"]


# ---- passes, text


def test_passes():
    said = done("passes")
    assert all(f"\n {name} " in f"\n{said}" for name in PASSES)
    listed = json.loads(done("passes", "--json"))
    assert [p["name"] for p in listed] == list(PASSES)
    assert [(p["name"], r["name"]) for p in listed for r in p["rules"]] == list(RULES)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass(name):
    said = done("passes", name)
    assert said.startswith(f"{name}: ")
    assert "\nbefore:\n" in said
    assert "\nafter:\n" in said
    assert all(f"\n {rule.name} " in said for rule in PASSES[name].rules)
    (one,) = json.loads(done("passes", name, "--json"))
    assert one["name"] == name


def test_a_rule_leads_to_its_pass():
    """`compile` names rules; whoever asks for one sees the pass that it is of."""
    assert done("passes", "fold_affine") == done("passes", "fold_batch_norm")


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["", "--json"])
def test_an_unknown_pass(options):
    assert "'no_such_pass'" in refused("passes", "no_such_pass", *options)


def test_text_parses_back(tmp_path):
    said = done("text", "zoo:lenet5")
    assert gp.text(gp.parse(said)) == said.rstrip("\n")
    path = tiny.save(tiny.network(), tmp_path, "model")
    assert done("text", path).rstrip("\n") == gp.text(gp.load(path)).rstrip("\n")
