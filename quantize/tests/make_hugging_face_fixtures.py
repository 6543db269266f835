#!/usr/bin/env python3
"""Makes tests/fixtures/hugging_face: small checkpoint folders without their weights, and what
llama.cpp's own converter makes of them.

usage: make_hugging_face_fixtures.py LLAMA_CPP CACHE

CACHE is where tests/fetch puts its files.
LLAMA_CPP is the folder vendor/llama.cpp of PyPI's llama-cpp-python 0.3.36 source package. Needs, from
PyPI: torch (CPU), transformers, tokenizers, safetensors, sentencepiece, gguf's dependencies.

Weights are not kept: they follow from a formula that the Rust test knows too (`stored`). Each case
keeps its config and tokenizer files and expected.json: every metadata key, and every tensor with
shape, type and SHA-256 of its bytes. Vocabulary arrays are kept as length and SHA-256. For one case of each
architecture logits.json has the logits that transformers computes in F32. tokenizers.json has the keys of the
real tokenizers in the folder of a case, of the chat template its SHA-256.
"""
import hashlib, json, shutil, subprocess, sys, tarfile, tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
    Qwen3Config, Qwen3ForCausalLM)

LLAMA_CPP, CACHE = Path(sys.argv[1]), Path(sys.argv[2])
OUT = Path(__file__).parent / "fixtures" / "hugging_face"
sys.path.insert(0, str(LLAMA_CPP / "gguf-py"))
import gguf  # noqa: E402  (the one that belongs to the converter)

EXPRESSION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK_V3 = [
    r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
TEXT = ["The quick brown fox jumps over the lazy dog, and the dog thinks about the fox.",
        "A cloister has a garden and no road out. The garden is small; the thoughts are not."] * 4
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"


def noise(name, count):
    """Pseudo-random whole numbers from 0 to 254."""
    seed = 0xCBF29CE484222325  # FNV-1a of the name
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    i = np.arange(count, dtype=np.uint64) + np.uint64(seed >> 32)
    return ((i * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % np.uint64(255)


def weight(name, shape):
    """Values that F16 and BF16 hold exactly, |k| <= 127: k / 128 in vectors; k / 256 in matrices, so
    that a model of them has scores and logits of an ordinary size."""
    k = noise(name, int(np.prod(shape))).astype(np.float32) - 127.0
    return torch.from_numpy(k.reshape(shape) / (128.0 if len(shape) == 1 else 256.0))


def stored(name, shape, dtype):
    """A tensor as the checkpoint of a case with `dtype` has it, by name: one, or FP8 and its scales."""
    if name.endswith("e_score_correction_bias"):
        return {name: weight(name, shape)}  # F32 beside whatever type
    if dtype != torch.float8_e4m3fn:
        return {name: weight(name, shape).to(dtype)}
    if len(shape) == 1 or ".layers." not in name or name.endswith("mlp.gate.weight"):
        return {name: weight(name, shape).to(torch.bfloat16)}
    n = noise(name, int(np.prod(shape)))  # any code but NaN, which is 127 of either sign
    codes = (n % np.uint64(127) + n // np.uint64(127) % np.uint64(2) * np.uint64(128)).astype(np.uint8)
    name_of_scales, blocks = f"{name}_scale_inv", [-(-n // 128) for n in shape]
    scales = noise(name_of_scales, int(np.prod(blocks))).astype(np.float32).reshape(blocks) + 1.0
    return {name: torch.from_numpy(codes.reshape(shape)).view(torch.float8_e4m3fn),
            name_of_scales: torch.from_numpy(scales / 2.0**17)}


def tokenizer(folder, digits, special, text_tokens, post, settings, splits=None):
    tok = Tokenizer(models.BPE(ignore_merges=digits != r"\p{N}" and splits is None))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        *(pre_tokenizers.Split(Regex(s), "isolated") for s in splits or [EXPRESSION.replace("DIGITS", digits)]),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in text_tokens])
    tok.post_processor = post(tok)
    tok.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False))
    return tok


def begin(token, pair_repeats):
    def make(tok):
        pair = f"{token} $A {token} $B" if pair_repeats else f"{token} $A $B"
        return processors.TemplateProcessing(
            single=f"{token} $A", pair=pair, special_tokens=[(token, tok.token_to_id(token))])
    return make


def case_r1_qwen(folder):
    """Untied, biases, classic rope spelling, DeepSeek's tokens, BF16, two shards."""
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    tokenizer(folder, r"\p{N}", [bos, eos, "<|vision_pad|>"],
              ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "a▁b"], begin(bos, False),
              {"bos_token": {"__type": "AddedToken", "content": bos, "lstrip": False, "normalized": True,
                             "rstrip": False, "single_word": False}, "eos_token": eos, "pad_token": "<|vision_pad|>",
               "unk_token": None,  # else transformers adds its Qwen2Tokenizer's default as a new token
               "add_bos_token": True, "add_eos_token": False, "chat_template": TEMPLATE})
    config = Qwen2Config(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        rms_norm_eps=1e-6, tie_word_embeddings=False)
    (folder / "generation_config.json").write_text(json.dumps(
        {"temperature": 0.6, "top_p": 0.95, "do_sample": True}))
    spelling = {"rope_theta": 10000, "rope_parameters": None, "bos_token_id": 300, "eos_token_id": 301}
    return Qwen2ForCausalLM, config, spelling, torch.bfloat16, "bf16", "deepseek-r1-qwen", 2


def case_qwen2_tied(folder):
    """Tied, yarn in the newer rope spelling, template in its own file, F16."""
    tokenizer(folder, r"\p{N}", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>"],
              lambda tok: processors.ByteLevel(trim_offsets=False, use_regex=False, add_prefix_space=False),
              {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
               "add_bos_token": False, "unk_token": None})
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = Qwen2Config(
        vocab_size=310, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
        rms_norm_eps=1e-5, tie_word_embeddings=True)
    spelling = {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0,
        "original_max_position_embeddings": 256, "beta_fast": 32.0, "attention_factor": 1.25}}
    return Qwen2ForCausalLM, config, spelling, torch.float16, "f16", "qwen2", 1


def case_llama3(folder):
    """Permuted q and k, llama3 rope scaling, head_dim, biases, F32, as Q8_0."""
    bos = "<|begin_of_text|>"
    tokenizer(folder, r"\p{N}{1,3}", [bos, "<|end_of_text|>", "<|eot_id|>"], [],
              lambda tok: processors.Sequence([processors.ByteLevel(trim_offsets=False), begin(bos, True)(tok)]),
              {"bos_token": bos, "eos_token": "<|eot_id|>", "add_prefix_space": False,
               "chat_template": [{"name": "default", "template": TEMPLATE},
                                 {"name": "tool-use", "template": "{{ tools }}"}]})
    config = LlamaConfig(
        vocab_size=304, hidden_size=64, intermediate_size=96, num_hidden_layers=2, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        attention_bias=True, rms_norm_eps=1e-5, tie_word_embeddings=True)
    spelling = {"rope_theta": 500000.0, "rope_parameters": None, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128}, "eos_token_id": [301, 302]}
    return LlamaForCausalLM, config, spelling, torch.float32, "q8_0", "llama-bpe", 1


def case_r1_qwen3(folder):
    """Norms of queries and keys, heads that are wider than the hidden state, YaRN with attn_factor in
    the older spelling, R1's tokens: as R1-0528-Qwen3-8B has them. BF16, two shards."""
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    tokenizer(folder, r"\p{N}", [bos, eos, "<｜▁pad▁｜>"], ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
              begin(bos, False),
              {"bos_token": bos, "eos_token": eos, "pad_token": "<｜▁pad▁｜>", "unk_token": None,
               "add_bos_token": True, "add_eos_token": False, "chat_template": TEMPLATE})
    config = Qwen3Config(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
        rms_norm_eps=1e-6, tie_word_embeddings=False)
    spelling = {"rope_theta": 1000000, "rope_parameters": None, "bos_token_id": 300, "eos_token_id": 301,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256,
                                 "attn_factor": 0.8782488562869419}}
    return Qwen3ForCausalLM, config, spelling, torch.bfloat16, "bf16", "deepseek-r1-qwen", 2


def deepseek_v3(folder, **sizes):
    """One dense layer, one of experts, one that predicts a further token; YaRN as R1 has it."""
    bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    tokenizer(folder, r"\p{N}{1,3}", [bos, eos, "<｜▁pad▁｜>"], ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
              begin(bos, False),
              {"bos_token": {"__type": "AddedToken", "content": bos, "lstrip": False, "normalized": True,
                             "rstrip": False, "single_word": False}, "eos_token": eos, "pad_token": eos,
               "unk_token": None, "add_bos_token": True, "add_eos_token": False, "chat_template": TEMPLATE},
              splits=DEEPSEEK_V3)
    config = DeepseekV3Config(
        vocab_size=320, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, n_routed_experts=8,
        n_group=4, topk_group=2, num_experts_per_tok=2, first_k_dense_replace=1, num_nextn_predict_layers=1,
        max_position_embeddings=1024, rms_norm_eps=1e-6, **sizes)
    spelling = {"rope_theta": 10000, "rope_parameters": None, "bos_token_id": 300, "eos_token_id": 301,
                "scoring_func": "sigmoid", "topk_method": "noaux_tc", "head_dim": None, "qk_head_dim": None,
                "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 256,
                                 "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}}
    return config, spelling


def case_deepseek(folder):
    """Latent attention and experts in BF16, three shards."""
    config, spelling = deepseek_v3(
        folder, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, kv_lora_rank=32, q_lora_rank=48,
        qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=24)
    return DeepseekV3ForCausalLM, config, spelling, torch.bfloat16, "bf16", "deepseek-v3", 3


def case_deepseek_fp8(folder):
    """The same in FP8: every matrix of the layers has blocks that its edges cut."""
    config, spelling = deepseek_v3(
        folder, hidden_size=136, intermediate_size=160, moe_intermediate_size=132, kv_lora_rank=136, q_lora_rank=144,
        qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=24)
    spelling["quantization_config"] = {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
    return DeepseekV3ForCausalLM, config, spelling, torch.float8_e4m3fn, "bf16", "deepseek-v3", 2


def sparse(case, **own):
    """A case whose config.json leaves out what its class has a default for; `own` replaces fields."""
    def make(folder):
        model_class, config, spelling, dtype, outtype, pre, _ = case(folder)
        config = type(config)(**{k: getattr(config, k) for k in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}, **own)
        left_out = set(config.to_dict()) - set(own) - {
            "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "model_type"}
        kept = {k: v for k, v in spelling.items() if k in ("scoring_func", "rope_parameters") and v is not None}
        return model_class, config, {**{k: None for k in left_out}, **kept}, dtype, outtype, pre, 1
    return make


def case_deepseek_sparse(folder):
    """Four layers, for three are dense if nothing else is said; the newer spelling of YaRN."""
    def case(folder):
        config, spelling = deepseek_v3(folder, hidden_size=64, intermediate_size=96)
        config.num_hidden_layers = 4
        spelling["rope_parameters"] = {
            "rope_theta": 10000.0, "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 256,
            "mscale": 1.0, "mscale_all_dim": 1.0}
        return DeepseekV3ForCausalLM, config, spelling, torch.bfloat16, "bf16", "deepseek-v3", 1
    return sparse(case, moe_intermediate_size=32, num_attention_heads=4, num_key_value_heads=4,
                  n_routed_experts=16)(folder)


def checkpoint_shapes(model_class, config):
    """Names and shapes as checkpoints have them: each expert by itself, and DeepSeek's extra layer."""
    with torch.device("meta"):
        state = {n: tuple(t.shape) for n, t in model_class(config).state_dict().items()}
    shapes = {}
    for name, shape in state.items():
        start, _, part = name.rpartition(".experts.")
        if part not in ("gate_up_proj", "down_proj"):
            shapes[name] = shape
            continue
        count, rows, columns = shape
        for expert in range(count):
            for projection in part.replace("gate_up", "gate_proj up").split():
                inner = rows // 2 if part == "gate_up_proj" else rows
                shapes[f"{start}.experts.{expert}.{projection}.weight"] = (inner, columns)
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    if config.model_type == "deepseek_v3":
        extra = f"model.layers.{config.num_hidden_layers}"
        shapes[f"{extra}.eh_proj.weight"] = (config.hidden_size, 2 * config.hidden_size)
        shapes[f"{extra}.enorm.weight"] = (config.hidden_size,)
        shapes[f"{extra}.input_layernorm.weight"] = (config.hidden_size,)
    return shapes


def checkpoint(folder, case):
    model_class, config, spelling, dtype, outtype, pre, shards = case(folder)
    fields = {**config.to_dict(), "architectures": [model_class.__name__], **spelling}
    fields = {k: v for k, v in fields.items() if v is not None}
    for field in ("transformers_version", "_name_or_path", "dtype"):
        fields.pop(field, None)
    (folder / "config.json").write_text(json.dumps(fields, indent=1))
    tensors = {}
    for name, shape in checkpoint_shapes(model_class, config).items():
        tensors |= stored(name, shape, dtype)
    names = sorted(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        files = {n: f"model-{i * shards // len(names) + 1:05}-of-{shards:05}.safetensors" for i, n in enumerate(names)}
        for file in sorted(set(files.values())):
            save_file({n: tensors[n] for n in names if files[n] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}, indent=1))
    return model_class, dtype, outtype, pre


def convert(folder, out, outtype, pre, before=""):
    """Runs upstream's converter, after the Python code `before`. Its list of hashes knows no tokenizer of 300 tokens, so the name of
    the pre-tokenizer is given; everything else is its own. Without a name it finds it by itself, of the
    tokens that transformers 4 gives: 5 leaves out the one that add_bos_token asks for."""
    begins = ("class Begins:\n"
              "    def __init__(self, tok): self.tok = tok\n"
              "    def encode(self, text):\n"
              "        ids, begin = self.tok.encode(text), self.tok.bos_token_id\n"
              "        asked = json.load(open(self.tok.name_or_path + '/tokenizer_config.json')).get('add_bos_token')\n"
              "        return [begin] + ids if asked and ids[0] != begin else ids\n"
              "own = base.TextModel.get_vocab_base_pre\n"
              "base.TextModel.get_vocab_base_pre = lambda self, tokenizer: own(self, Begins(tokenizer))\n")
    given = f"base.TextModel.get_vocab_base_pre = lambda self, tokenizer: {pre!r}\n"
    run = (f"import json, sys; sys.path.insert(0, {str(LLAMA_CPP)!r}); sys.path.insert(0, {str(LLAMA_CPP / 'gguf-py')!r})\n"
           "import conversion.base as base\n"
           f"{given if pre else begins}{before}"
           f"sys.argv = ['convert', {str(folder)!r}, '--outfile', {str(out)!r}, '--outtype', {outtype!r}]\n"
           "import runpy; runpy.run_path("
           f"{str(LLAMA_CPP / 'convert_hf_to_gguf.py')!r}, run_name='__main__')\n")
    subprocess.run([sys.executable, "-c", run], check=True, capture_output=True)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def describe(path):
    reader = gguf.GGUFReader(path)
    metadata = {}
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        value = field.contents()
        kind = field.types[0].name.lower()
        if isinstance(value, list):
            texts = [v if isinstance(v, str) else str(v) for v in value]
            value = {"element_type": field.types[1].name.lower(), "length": len(value),
                     "sha256": sha256("\0".join(texts).encode())}
        metadata[key] = {"type": kind, "value": value}
    tensors = {t.name: {"shape": [int(d) for d in t.shape], "type": t.tensor_type.name,
                        "sha256": sha256(t.data.tobytes())} for t in reader.tensors}
    return {"metadata": metadata, "tensors": tensors}


def logits(folder, model_class, begin):
    """Some tokens and the logits after each, in 1/1024, by transformers from the checkpoint in F32."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    floats = {n: t.float() for n, t in tensors.items() if not n.endswith("_scale_inv")}
    for name, scales in tensors.items():
        if name.endswith("_scale_inv"):
            weight = floats[name.removesuffix("_scale_inv")]
            rows, columns = (torch.arange(n) // 128 for n in weight.shape)
            weight *= scales[rows][:, columns]
    config.pop("quantization_config", None)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(config))
        save_file(floats, Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        model, info = model_class.from_pretrained(
            scratch, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    tokens = [begin] + [(37 * i * i + 11 * i + 3) % 256 for i in range(15)]
    with torch.no_grad():
        rows = model.eval()(torch.tensor([tokens])).logits[0]
    rows = [[round(x * 1024) for x in row] for row in rows.tolist()]
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f'{{"tokens": {json.dumps(tokens)}, "logits_by_1024": [\n{text}\n]}}\n'


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for name, case in [("r1-qwen", case_r1_qwen), ("qwen2-tied", case_qwen2_tied), ("llama3", case_llama3),
                       ("r1-qwen3", case_r1_qwen3), ("deepseek", case_deepseek), ("deepseek-fp8", case_deepseek_fp8),
                       ("qwen2-sparse", sparse(case_r1_qwen)), ("llama-sparse", sparse(case_llama3)),
                       ("qwen3-sparse", sparse(case_r1_qwen3)), ("deepseek-sparse", case_deepseek_sparse)]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / f"tiny-{name}"
            folder.mkdir()
            model_class, dtype, outtype, pre = checkpoint(folder, case)
            gguf_file = Path(scratch) / "out.gguf"
            convert(folder, gguf_file, outtype, pre)
            expected = {"stored": str(dtype).removeprefix("torch."), "type": outtype.upper(), **describe(gguf_file)}
            kept = OUT / f"tiny-{name}"
            kept.mkdir(parents=True)
            for file in folder.iterdir():
                if file.suffix in (".json", ".jinja"):
                    shutil.copy(file, kept)
            (kept / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
            # llama.cpp knows no attention_factor, which qwen2-tied has.
            if name != "qwen2-tied" and not name.endswith("-sparse"):
                (kept / "logits.json").write_text(logits(
                    folder, model_class, expected["metadata"]["tokenizer.ggml.bos_token_id"]["value"]))
            print(f"{kept}: {len(expected['metadata'])} keys, {len(expected['tensors'])} tensors")


def real_tokenizer(package, case, rows):
    """The keys of the tokenizer in an npm package, for a model of so many rows and a case's config."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tiny"
        folder.mkdir()

        def with_rows(folder):
            model_class, config, *rest = case(folder)
            config.vocab_size = rows
            return model_class, config, *rest
        _, _, outtype, _ = checkpoint(folder, with_rows)
        with tarfile.open(CACHE / f"tokenizer-{package}.tgz") as archive:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                (folder / file).write_bytes(archive.extractfile(f"package/models/{file}").read())
        gguf_file = Path(scratch) / "out.gguf"
        convert(folder, gguf_file, outtype, None)
        metadata = describe(gguf_file)["metadata"]
    keys = {k: v for k, v in metadata.items() if k.startswith("tokenizer.")}
    template = keys["tokenizer.chat_template"]
    template["value"] = sha256(template["value"].encode())
    print(f"{package}: {len(keys)} keys, {keys['tokenizer.ggml.pre']['value']}")
    return {"rows": rows, "metadata": keys}


if __name__ == "__main__":
    try:
        main()
        (OUT / "tokenizers.json").write_text(json.dumps({
            "deepseek_v3": real_tokenizer("deepseek_v3", case_deepseek, 129280),
            "llama3_1": real_tokenizer("llama3_1", case_llama3, 128256),
            "qwen3": real_tokenizer("qwen3", case_r1_qwen3, 151936)}, indent=1, ensure_ascii=False) + "\n")
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr.decode())
