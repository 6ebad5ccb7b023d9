"""Converts Hugging Face folders by llama.cpp's own converter; prints for each what went wrong, or null.

    python3 scripts/reference/convert_with_llama_cpp.py LLAMA_CPP FOLDER OUT.gguf [FOLDER OUT.gguf …]

LLAMA_CPP is a checkout of its source. The converter knows published tokenizers by the ids they give; small models of tests have
others, so a vocabulary that it refuses is written as plain byte-level BPE, or as a list of tokens where there are no merges.
"""
import contextlib
import json
import runpy
import sys
import traceback


def main(source, *paths):
    sys.path[:0] = [source, source + "/gguf-py"]
    import conversion
    from conversion.base import ModelBase, TextModel

    conversion.load_all_models()
    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    for classes in ModelBase._model_classes.values():
        for model in classes.values():
            if "set_vocab" in vars(model):
                model.set_vocab = lenient(model.set_vocab)
    print(json.dumps([convert(source, *pair) for pair in zip(paths[::2], paths[1::2])]))


def convert(source, folder, out):
    sys.argv = ["convert_hf_to_gguf.py", "--outtype", "f32", "--outfile", out, folder]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(source + "/convert_hf_to_gguf.py", run_name="__main__")
    except (Exception, SystemExit):
        return traceback.format_exc()
    return None


def lenient(set_vocab):
    def attempt(self):
        kind = json.load(open(self.dir_model / "tokenizer.json"))["model"]["type"]
        for way in (set_vocab, (lambda self: self._set_vocab_gpt2()) if kind == "BPE" else token_list):
            known = dict(self.gguf_writer.kv_data[0])
            try:
                return way(self)
            except (KeyError, FileNotFoundError, ImportError, AssertionError):
                self.gguf_writer.kv_data[0].clear()
                self.gguf_writer.kv_data[0].update(known)
        raise ValueError("no vocabulary")

    return attempt


def token_list(self):
    size = self.hparams["vocab_size"]
    writer = self.gguf_writer
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<pad>", "</s>", "<unk>", "\u2581"] + [f"token{i}" for i in range(4, size)])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([3, 3, 2] + [1] * (size - 3))
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
