"""Token ids of the `tokenizers` library, as hashes that test/text/reference.test.ts compares with ours.

    python3 scripts/reference/token_ids.py fixtures FOLDER OUT.json
        for the fixture folders that KINDS names: ids and decoded texts of the texts and random strings
    python3 scripts/reference/token_ids.py odd FOLDER
        writes tokenizers with rarer options to FOLDER/NAME/tokenizer.json, and hashes for them to FOLDER/expected.json
    python3 scripts/reference/token_ids.py unicode
        prints the sets of code points that depend on the library's Unicode tables, as JSON
"""
import hashlib
import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
SOURCE = json.loads((ROOT / "test/fixtures/tokenizers/texts.json").read_text())
KINDS = ["gpt2", "llama3_rope", "qwen3", "llama", "bert_mlm", "t5", "bart"]
COUNT = 10_000
BLOCK = 500


def random_numbers(seed):
    """mulberry32; the same as in test/helpers/texts.ts."""
    mask = 0xFFFFFFFF
    state = seed
    while True:
        state = (state + 0x6D2B79F5) & mask
        t = ((state ^ (state >> 15)) * (state | 1)) & mask
        t = (t ^ ((t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask)) & mask
        yield t ^ (t >> 14)


def random_strings(count, seed):
    numbers = random_numbers(seed)
    below = lambda n: next(numbers) * n >> 32

    def scalar(limit):
        code = below(limit - 0x800)
        return chr(code + 0x800 if code >= 0xD800 else code)

    lists = [SOURCE["words"], SOURCE["marks"], SOURCE["blanks"], SOURCE["emoji"]]
    for i in range(count):
        kind = i % 8
        length = 1 + below(40)
        if kind == 0:
            yield "".join(scalar(0x110000) for _ in range(length))
        elif kind == 1:
            yield "".join(scalar(0x10000) for _ in range(length))
        elif kind == 2:
            yield "".join(scalar(0x3000) for _ in range(length))
        elif kind == 7:
            yield "".join((pick := lists[below(4)])[below(len(pick))] for _ in range(length))
        else:
            pick = lists[kind - 3]
            yield "".join(pick[below(len(pick))] for _ in range(length))


def hash_of(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def hashes(tokenizer, count=COUNT):
    """Of the ids (decimal, joined by commas) and of the decoded texts (behind their length in bytes), one a line."""
    def of(texts):
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        texts = [tokenizer.decode(row, skip_special_tokens=False) for row in ids]
        return {
            "count": sum(map(len, ids)),
            "ids": hash_of([",".join(map(str, row)) for row in ids]),
            "texts": hash_of([f"{len(text.encode())}:{text}" for text in texts]),
        }

    strings = list(random_strings(count, 1))
    return {
        "texts": of(SOURCE["texts"] + list(SOURCE["scripts"].values())),
        "random": [of(strings[at:at + BLOCK]) for at in range(0, count, BLOCK)],
    }


def fixtures(folder, out):
    result = {"tokenizers": tokenizers.__version__, "count": COUNT, "block": BLOCK, "folders": {}}
    for kind in KINDS:
        path = Path(folder) / kind / "tokenizer.json"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        result["folders"][kind] = {"sha256": digest, **hashes(Tokenizer.from_file(str(path)))}
    Path(out).write_text(json.dumps(result, separators=(",", ":")).replace('},{', '},\n{') + "\n")


def corpus():
    return [text for text in SOURCE["texts"] if text] + list(SOURCE["scripts"].values()) + SOURCE["words"]


def short_corpus():
    """Few enough characters for a vocabulary of 500."""
    return SOURCE["words"] * 3 + [text for text in SOURCE["texts"] if text.isascii() and text]


def odd_tokenizers():
    """(name, tokenizer): options that the fixtures do not have."""
    def byte_bpe(pre, normalizer=None, post=None, **options):
        tok = Tokenizer(models.BPE(**options))
        tok.pre_tokenizer, tok.decoder = pre, decoders.ByteLevel()
        if normalizer is not None:
            tok.normalizer = normalizer
        if post is not None:
            tok.post_processor = post
        tok.train_from_iterator(corpus(), trainers.BpeTrainer(
            vocab_size=600, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
        return tok

    yield "byte_level_prefix_space", byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=True))
    for behavior in ["removed", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            split = pre_tokenizers.Split(Regex(r"\p{P}|\s"), behavior, invert)
            pre = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
            yield f"split_{behavior}{'_inverted' if invert else ''}", byte_bpe(pre)
    for name, split in [("digits", pre_tokenizers.Digits(individual_digits=False)),
                        ("single_digits", pre_tokenizers.Digits(individual_digits=True)),
                        ("punctuation", pre_tokenizers.Punctuation("merged_with_next")),
                        ("whitespace", pre_tokenizers.Whitespace()),
                        ("whitespace_split", pre_tokenizers.WhitespaceSplit()),
                        ("delimiter", pre_tokenizers.CharDelimiterSplit("e")),
                        ("fixed_length", pre_tokenizers.FixedLength(3))]:
        pre = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        yield name, byte_bpe(pre)
    for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]:
        yield f"normalizer_{form}", byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False),
                                             getattr(normalizers, form)())
    strip = normalizers.Sequence([normalizers.Strip(left=True, right=False),
                                  normalizers.Replace(Regex(r"[\p{Lu}]+"), "U"), normalizers.Prepend("»")])
    yield "strip_replace_prepend", byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), strip)
    for name, pattern in [
        ("gpt4o", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                  r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                  r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("deepseek_v3", "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
        ("word_class", r"\w+|\W|\d\b"),
    ]:
        pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        yield f"pattern_{name}", byte_bpe(pre)

    def with_added(tok, *tokens):
        tok.add_tokens(list(tokens))
        return tok

    added = [AddedToken(content, lstrip=lstrip, rstrip=rstrip, single_word=single, normalized=normalized)
             for content, lstrip, rstrip, single, normalized in [
                 ("<s>", True, False, False, False), ("</s>", False, True, False, False),
                 ("the", False, False, True, False), ("ing", True, True, False, True), ("The", False, False, True, True),
                 ("中", False, False, False, True), ("[SEP]", True, True, True, False), (" and", False, False, False, True)]]
    yield "added", with_added(byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False)), *added)
    yield "added_lowercase", with_added(byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False),
                                                 normalizers.Lowercase()), *added)

    def spaced_bpe(**options):
        tok = Tokenizer(models.BPE(unk_token="<unk>", **options))
        tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tok.decoder = decoders.BPEDecoder(suffix=options.get("end_of_word_suffix") or "</w>")
        tok.train_from_iterator(corpus(), trainers.BpeTrainer(
            vocab_size=700, show_progress=False, special_tokens=["<unk>"], limit_alphabet=200,
            **{name: options[name] for name in options if name != "fuse_unk"}))
        return tok

    yield "bpe_suffix", spaced_bpe(end_of_word_suffix="</w>")
    yield "bpe_prefix", spaced_bpe(continuing_subword_prefix="##")
    yield "bpe_fused_unknown", spaced_bpe(fuse_unk=True)
    yield "bpe_unknown", spaced_bpe(fuse_unk=False)

    # Byte fallback for some bytes only: what has none of them is unknown.
    tok = spaced_bpe(fuse_unk=True)
    data = json.loads(tok.to_str())
    size = len(data["model"]["vocab"])
    for byte in range(0x80, 0x100):
        if byte not in (0xE3, 0xF0):
            data["model"]["vocab"][f"<0x{byte:02X}>"] = size
            size += 1
    data["model"]["byte_fallback"] = True
    data["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    yield "bpe_some_bytes", Tokenizer.from_str(json.dumps(data))

    for scheme in ["always", "first", "never"]:
        for split in [True, False]:
            tok = Tokenizer(models.Unigram())
            tok.normalizer = normalizers.NFKC()
            tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
            tok.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
            tok.train_from_iterator(short_corpus(), trainers.UnigramTrainer(
                vocab_size=500, show_progress=False, special_tokens=["<unk>", "</s>", "<s>"], unk_token="<unk>"))
            yield f"unigram_{scheme}{'' if split else '_whole'}", tok
    data = json.loads(tok.to_str())
    data["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
    data["model"]["byte_fallback"] = True
    yield "unigram_bytes", Tokenizer.from_str(json.dumps(data))

    for name, options in [("bert_cased", dict(lowercase=False)), ("bert_raw", dict(clean_text=False, lowercase=True)),
                          ("bert_accents", dict(lowercase=True, strip_accents=False, handle_chinese_chars=False))]:
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
        tok.normalizer = normalizers.BertNormalizer(**options)
        tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tok.decoder = decoders.WordPiece(cleanup=name != "bert_raw")
        tok.train_from_iterator(corpus(), trainers.WordPieceTrainer(
            vocab_size=900, show_progress=False, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]"]))
        yield name, tok

    try:
        import sentencepiece
    except ImportError:
        return
    yield "charsmap", with_charsmap(sentencepiece)


def with_charsmap(sentencepiece):
    """T5's own normaliser: the character map that SentencePiece compiles."""
    import io

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(short_corpus()), model_writer=model, vocab_size=300, model_type="unigram",
        normalization_rule_name="nmt_nfkc", hard_vocab_limit=False, character_coverage=0.98, minloglevel=2)
    charsmap = charsmap_of(model.getvalue())
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), "▁")])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tok.decoder = decoders.Metaspace()
    tok.train_from_iterator(short_corpus(), trainers.UnigramTrainer(
        vocab_size=500, show_progress=False, special_tokens=["<unk>", "</s>"], unk_token="<unk>"))
    return tok


def charsmap_of(model):
    """Field 2 of normalizer_spec (field 3) of a serialised ModelProto, without a protobuf library."""
    def fields(data):
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        while at < len(data):
            key = varint()
            if key & 7 == 2:
                size = varint()
                yield key >> 3, data[at:at + size]
                at += size
            elif key & 7 == 0:
                varint()
            else:
                at += 4 if key & 7 == 5 else 8

    spec = next(value for number, value in fields(model) if number == 3)
    return next(value for number, value in fields(spec) if number == 2)


def odd(folder):
    expected = {}
    for name, tok in odd_tokenizers():
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        tok.save(str(place / "tokenizer.json"))
        expected[name] = hashes(tok, 2_000)
    (Path(folder) / "expected.json").write_text(json.dumps(expected))


def unicode_sets():
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]

    def changed(normalizer, around="{}"):
        result = {}
        for code in codes:
            text = around.format(chr(code))
            got = normalizer.normalize_str(text)
            if got != text:
                result[code] = got
        return result

    def lonely(splitter):
        return [code for code in codes if len(splitter.pre_tokenize_str(f"a{chr(code)}b")) == 3]

    bert = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return {
        "normalized": {form: changed(getattr(normalizers, form)()) for form in ["NFC", "NFD", "NFKC", "NFKD"]},
        # Classes of combining: with marks of class 1 and 230 on both sides the order shows them.
        "ordered": changed(normalizers.NFC(), "q\u0301{}\u0334"),
        "lower": changed(normalizers.Lowercase()),
        "accents": changed(normalizers.StripAccents()),
        "bertAccents": changed(normalizers.BertNormalizer(**{**bert, "strip_accents": True}), "q{}"),
        "bertClean": changed(normalizers.BertNormalizer(**{**bert, "clean_text": True})),
        "bertPunctuation": lonely(pre_tokenizers.BertPreTokenizer()),
        "letters": lonely(pre_tokenizers.Split(Regex(r"(?!a|b)\p{L}"), "isolated")),
        "numbers": lonely(pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")),
        "marks": lonely(pre_tokenizers.Split(Regex(r"\p{M}"), "isolated")),
        "small": lonely(pre_tokenizers.Split(Regex(r"(?!a|b)\p{Ll}"), "isolated")),
        "signs": lonely(pre_tokenizers.Split(Regex(r"[\p{S}\p{P}]"), "isolated")),
    }


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "fixtures":
        fixtures(*rest)
    elif command == "odd":
        odd(*rest)
    elif command == "unicode":
        json.dump(unicode_sets(), sys.stdout)
    else:
        sys.exit(__doc__)
