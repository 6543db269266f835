#!/usr/bin/env python3
"""Makes tests/fixtures/published: for each checkpoint that DeepSeek has published, its config.json,
generation_config.json and the front matter of its README.md, and what llama.cpp's own converter is going to
write for a folder of them: every metadata key, every tensor's name, shape and type.

usage: make_published_fixtures.py LLAMA_CPP CACHE       as make_hugging_face_fixtures.py, which it builds on

The weights have their real names, shapes and types, and are holes in sparse files: nobody reads them. The
tokenizers are the small ones of tests/fixtures/hugging_face; the real ones have tests of their own. Fields are as the
checkpoints of January (0528: May) 2025 have them.
"""
import collections, json, re, subprocess, sys, tempfile
from pathlib import Path

import torch

from make_hugging_face_fixtures import (
    OUT, DeepseekV3Config, DeepseekV3ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
    Qwen3Config, Qwen3ForCausalLM, case_deepseek, case_llama3, case_r1_qwen, case_r1_qwen3, checkpoint_shapes, convert)

PUBLISHED = OUT.parent / "published"

SAMPLING = {"_from_model_config": True, "do_sample": True, "temperature": 0.6, "top_p": 0.95}
CARD = "---\nlicense: mit\nlibrary_name: transformers\n---\n# A model\n"


def qwen2(**own):
    return {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151643, "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 131072,
        "model_type": "qwen2", "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_cache": True,
        "use_mrope": False, "use_sliding_window": False, "vocab_size": 152064, **own}


def llama3(**own):
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "initializer_range": 0.02,
        "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0", "use_cache": True, "vocab_size": 128256, **own}


QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 12288, "max_position_embeddings": 131072, "max_window_layers": 36, "model_type": "qwen3",
    "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
                     "attn_factor": 0.8782488562869419},
    "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936}

V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModel": "modeling_deepseek.DeepseekV3Model",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"},
    "aux_loss_alpha": 0.001, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3,
    "hidden_act": "silu", "hidden_size": 7168, "initializer_range": 0.02, "intermediate_size": 18432,
    "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3", "moe_intermediate_size": 2048,
    "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1, "pretraining_tp": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "quantization_config": {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06, "rope_scaling": {
        "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": True,
    "tie_word_embeddings": False, "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16",
    "transformers_version": "4.33.1", "use_cache": True, "v_head_dim": 128, "vocab_size": 129280}

QWEN2 = (Qwen2ForCausalLM, Qwen2Config, case_r1_qwen, "tiny-r1-qwen", "deepseek-r1-qwen")
LLAMA = (LlamaForCausalLM, LlamaConfig, case_llama3, "tiny-llama3", "llama-bpe")
QWEN3 = (Qwen3ForCausalLM, Qwen3Config, case_r1_qwen3, "tiny-r1-qwen3", "deepseek-r1-qwen")
DEEPSEEK = (DeepseekV3ForCausalLM, DeepseekV3Config, case_deepseek, "tiny-deepseek", "deepseek-v3")
CHECKPOINTS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": (QWEN2, SAMPLING, CARD, qwen2(
        hidden_size=1536, intermediate_size=8960, max_window_layers=21, num_attention_heads=12, num_hidden_layers=28,
        num_key_value_heads=2, vocab_size=151936)),
    "DeepSeek-R1-Distill-Qwen-7B": (QWEN2, SAMPLING, CARD, qwen2(
        hidden_size=3584, intermediate_size=18944, max_window_layers=28, num_attention_heads=28, num_hidden_layers=28,
        num_key_value_heads=4)),
    "DeepSeek-R1-Distill-Qwen-14B": (QWEN2, SAMPLING, CARD, qwen2(
        hidden_size=5120, intermediate_size=13824, max_window_layers=48, num_attention_heads=40, num_hidden_layers=48,
        num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=1000000.0, sliding_window=131072)),
    "DeepSeek-R1-Distill-Qwen-32B": (QWEN2, SAMPLING, CARD, qwen2(
        hidden_size=5120, intermediate_size=27648, max_window_layers=64, num_attention_heads=40, num_hidden_layers=64,
        num_key_value_heads=8, rms_norm_eps=1e-05, rope_theta=1000000.0, sliding_window=131072)),
    "DeepSeek-R1-Distill-Llama-8B": (LLAMA, SAMPLING, CARD, llama3(
        hidden_size=4096, intermediate_size=14336, num_attention_heads=32, num_hidden_layers=32)),
    "DeepSeek-R1-Distill-Llama-70B": (LLAMA, SAMPLING, CARD, llama3(
        hidden_size=8192, intermediate_size=28672, num_attention_heads=64, num_hidden_layers=80)),
    "DeepSeek-R1-0528-Qwen3-8B": (QWEN3, SAMPLING, CARD, QWEN3_8B),
    "DeepSeek-R1": (DEEPSEEK, SAMPLING, CARD, V3),
    "DeepSeek-R1-0528": (DEEPSEEK, SAMPLING, CARD, V3),
    "DeepSeek-R1-Zero": (DEEPSEEK, {**SAMPLING, "top_k": 40, "repetition_penalty": 1.1}, (
        "---\nlicense: [mit, other]\nlicense_name: both\nlicense_link: LICENSE\npipeline_tag: text-generation\n"
        "tags:\n- reasoning\n- \"moe\"\nlanguage:\n- en\n- no\nmodel_creator: DeepSeek\nbase_model:\n"
        "- deepseek-ai/DeepSeek-V3-Base\n- https://example.org/merged\ndatasets: some/data-v1.5\n---\n"), V3),
    "DeepSeek-V3": (DEEPSEEK, {}, "# No front matter\n", V3)}

# In place of ModelBase.write: what it would write, without the weights.
DUMP = """
from gguf import GGUFValueType
from pathlib import Path
def dump(self):
    self.prepare_tensors()
    self.prepare_metadata(vocab_only=False)
    import hashlib
    metadata = {}
    for key, field in self.gguf_writer.kv_data[0].items():
        kind, value = field.type.name.lower(), field.value
        if field.type == GGUFValueType.ARRAY:
            element = field.sub_type or GGUFValueType.get_type(value[0])
            if isinstance(value, bytes): value = list(value)
            texts = [v if isinstance(v, bytes) else str(v).encode() for v in value]
            value = {'element_type': element.name.lower(), 'length': len(value),
                     'sha256': hashlib.sha256(b'\\0'.join(texts)).hexdigest()}
        elif field.type == GGUFValueType.FLOAT32:
            import struct
            value, = struct.unpack('f', struct.pack('f', value))
        metadata[key] = {'type': kind, 'value': value}
    tensors = [[name, list(reversed([int(d) for d in t.shape])), t.dtype.name]
               for name, t in self.gguf_writer.tensors[0].items()]
    Path(self.fname_out).write_text(json.dumps({'metadata': metadata, 'tensors': tensors}))
base.ModelBase.write = dump
"""


def stored(name, shape, fp8):
    """A tensor as a checkpoint has it: names, dtypes, shapes and bytes of an element."""
    if name.endswith("e_score_correction_bias"):
        return [(name, "F32", shape, 4)]
    if not fp8 or len(shape) == 1 or name.endswith(("mlp.gate.weight", "eh_proj.weight")) or not re.search(
            r"\.(self_attn|mlp)\.", name):
        return [(name, "BF16", shape, 2)]
    return [(name, "F8_E4M3", shape, 1), (f"{name}_scale_inv", "F32", [-(-n // 128) for n in shape], 4)]


def further_layer(shapes, config):
    """The layer that predicts a further token: a whole one, and what belongs to it alone."""
    last, extra = config.num_hidden_layers - 1, f"model.layers.{config.num_hidden_layers}."
    own = {n: s for n, s in shapes.items() if not n.startswith(extra)}
    own |= {n.replace(f".layers.{last}.", f".layers.{last + 1}."): s
            for n, s in own.items() if f".layers.{last}." in n}
    hidden, words = config.hidden_size, config.vocab_size
    return own | {extra + "embed_tokens.weight": (words, hidden), extra + "shared_head.head.weight": (words, hidden),
                  extra + "shared_head.norm.weight": (hidden,), extra + "enorm.weight": (hidden,),
                  extra + "hnorm.weight": (hidden,), extra + "eh_proj.weight": (hidden, 2 * hidden)}


def sparse_file(path, shapes, fp8):
    """A safetensors file whose data is one hole."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        for name, dtype, shape, size in stored(name, list(shape), fp8):
            begin, end = end, end + int(torch.Size(shape).numel()) * size
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def expected(name, checkpoint):
    (model_class, config_class, case, tokenizer, pre), generation, card, fields = checkpoint
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        case(folder)  # for its tokenizer
        (folder / "config.json").write_text(json.dumps(fields))
        (folder / "generation_config.json").write_text(json.dumps(generation))
        (folder / "README.md").write_text(card)
        config = config_class(**{k: v for k, v in fields.items() if k not in (
            "rope_scaling", "quantization_config", "auto_map", "architectures", "model_type", "torch_dtype")})
        shapes = checkpoint_shapes(model_class, config)
        if model_class == DeepseekV3ForCausalLM:
            shapes = further_layer(shapes, config)
        sparse_file(folder / "model.safetensors", shapes, "quantization_config" in fields)
        out = Path(scratch) / "out.json"
        convert(folder, out, "bf16", pre, DUMP)
        written = json.loads(out.read_text())
    kinds = collections.Counter(
        f'{re.sub(r"^blk[.][0-9]+[.]", "blk.N.", tensor)} {shape} {kind}' for tensor, shape, kind in written["tensors"])
    print(f'{name}: {len(written["metadata"])} keys, {len(written["tensors"])} tensors')
    return {"config": fields, "generation_config": generation, "card": card, "tokenizer": tokenizer,
            "metadata": written["metadata"], "tensors": dict(sorted(kinds.items()))}


if __name__ == "__main__":
    PUBLISHED.mkdir(exist_ok=True)
    try:
        for name, checkpoint in CHECKPOINTS.items():
            text = json.dumps(expected(name, checkpoint), indent=1, ensure_ascii=False)
            (PUBLISHED / f"{name}.json").write_text(text + "\n")
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr.decode())
