"""Reads what this project wrote, with the libraries that others read it with; prints JSON.

    python3 scripts/reference/read_written.py folder FOLDER IDS.json     logits of transformers
    python3 scripts/reference/read_written.py gguf FILE                  keys and tensors as the gguf package sees them
"""
import hashlib
import json
import re
import sys


def folder(path, ids):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

    config = AutoConfig.from_pretrained(path)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else \
        AutoModelForMaskedLM if config.model_type == "bert" else AutoModelForCausalLM
    model, info = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    model.eval()
    inputs = {"input_ids": torch.tensor(ids)}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[0, 4, 8]])
    with torch.no_grad():
        logits = model(**inputs).logits
    tokenizer = AutoTokenizer.from_pretrained(path)
    return {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "mismatched": sorted(map(str, info["mismatched_keys"])),
        "logits": logits.flatten().tolist(),
        "ids": tokenizer("The gate decides 42.")["input_ids"],
    }


def gguf(path):
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    keys = {}
    for name, field in reader.fields.items():
        value = field.contents()
        keys[name] = value if not isinstance(value, list) or len(value) <= 4 else len(value)
    tensors = {
        tensor.name: {
            "type": tensor.tensor_type.name,
            "shape": [int(size) for size in reversed(tensor.shape)],
            "sum": float(dequantize(tensor.data, tensor.tensor_type).astype("float64").sum()),
            "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        }
        for tensor in reader.tensors
    }
    return {"keys": keys, "tensors": tensors, "foreign": foreign_names(keys["general.architecture"], tensors)}


def foreign_names(arch, names):
    """Tensors that the package does not list for the architecture."""
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

    kind = next(each for each, name in MODEL_ARCH_NAMES.items() if name == arch)
    known = {re.sub(r"\{bid\}", "0", TENSOR_NAMES[tensor]) for tensor in MODEL_TENSORS[kind]}
    return [name for name in names if re.sub(r"blk\.\d+", "blk.0", name).rpartition(".")[0] not in known]


if __name__ == "__main__":
    command, path, *rest = sys.argv[1:]
    if command == "folder":
        result = folder(path, json.load(open(rest[0])))
    elif command == "gguf":
        result = gguf(path)
    else:
        sys.exit(__doc__)
    json.dump(result, sys.stdout)
