"""Fuzz the readers of model files with atheris: `python tests/maintain/fuzz_headers.py [-max_total_time=600] [CORPUS]`.

The first byte of an input chooses the reader. A reader may give a header that its file can hold, or raise ValueError
with one line, within a second; anything else is a finding. Needs `pip install atheris` and the package on the path.
"""

from __future__ import annotations

import io
import os
import sys
import time

import atheris

with atheris.instrument_imports(include=["envguard"]):
    from envguard.modelfiles import bounded_json, gguf, quantized, safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "modelfiles"))


def one(data: bytes) -> None:
    """Give one input to one reader."""
    if not data:
        return
    started = time.process_time()
    kind, data = data[0] % 4, data[1:]
    try:
        if kind == 0:
            length = int.from_bytes(data[:2], "little")
            header = safetensors.parse_header(data[2:], length)
            assert sum(tensor.nbytes for tensor in header.tensors) == length, "bytes"
        elif kind == 1:
            made = gguf.parse_header(io.BytesIO(data), len(data))
            assert sum(tensor.nbytes for tensor in made.tensors) <= len(data), "bytes"
            assert made.scheme, "scheme"
        elif kind == 2:
            bounded_json.loads(data)
        else:
            config = bounded_json.loads(data)
            if isinstance(config, dict):
                quantized.from_config(config)
    except ValueError as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"not one line: {error!r}") from error
    assert time.process_time() - started < 1, "too slow"


def seeds(folder: str) -> None:
    """Write whole files to begin with."""
    from model_files import array, field, gguf_bytes, safetensors_bytes, string, text_field, u32

    whole = safetensors_bytes({"a.weight": ("BF16", [3, 5]), "b": ("I64", [])}, {"format": "pt"}, data=False)[8:]
    words = field("t", 9, array(8, 2, string("a") + string("bc")))
    fields = [text_field("general.architecture", "flux"), u32("general.file_type", 15), words]
    configs = [
        b'{"quant_method": "bitsandbytes", "_load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}',
        b'{"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}}}',
        b'{"quant_method": "modelopt", "quant_algo": "FP8"}',
        b'{"quant_method": "quanto", "weights_dtype": "int4"}',
    ]
    made = [b"\0" + (38).to_bytes(2, "little") + whole]
    made += [b"\1" + gguf_bytes({"a": ("Q4_K", [3, 256]), "b": ("F32", [7])}, fields)]
    made += [kind + config for kind in (b"\2", b"\3") for config in configs]
    for number, data in enumerate(made):
        with open(os.path.join(folder, f"seed-{number}"), "wb") as file:
            file.write(data)


def main() -> None:
    """Run atheris with libFuzzer's options."""
    folders = [word for word in sys.argv[1:] if not word.startswith("-")]
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        seeds(folder)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
