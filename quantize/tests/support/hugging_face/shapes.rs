//! Names and shapes of the tensors that a checkpoint stores for a config.json, as transformers'
//! classes have them.

use serde_json::Value;

/// A tensor's name and its shape in PyTorch's order.
type NamedShape = (String, Vec<u64>);

/// A field, or what transformers' class has where config.json does not say.
fn field(config: &Value, name: &str) -> u64 {
    let default = || match name {
        "num_attention_heads" | "num_key_value_heads" => 32,
        "q_lora_rank" => 1536,
        "kv_lora_rank" => 512,
        "qk_nope_head_dim" | "v_head_dim" => 128,
        "qk_rope_head_dim" => 64,
        "first_k_dense_replace" => 3,
        "n_shared_experts" => 1,
        _ => panic!("{name} is missing"),
    };
    config[name].as_u64().unwrap_or_else(default)
}

pub fn shapes(config: &Value) -> Vec<NamedShape> {
    let n = |name: &str| field(config, name);
    let (hidden, vocabulary) = (n("hidden_size"), n("vocab_size"));
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![vocabulary, hidden],
        ),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if config["tie_word_embeddings"] != true {
        tensors.push(("lm_head.weight".to_owned(), vec![vocabulary, hidden]));
    }
    let latent = config["architectures"][0] == "DeepseekV3ForCausalLM";
    for layer in 0..n("num_hidden_layers") {
        let (attention, feed_forward) = match latent {
            true => (latent_attention(config), experts(config, layer)),
            false => (
                grouped_attention(config),
                matrices("mlp.", n("intermediate_size"), hidden),
            ),
        };
        let norms = ["input_layernorm", "post_attention_layernorm"];
        let norms = norms.map(|name| (format!("{name}.weight"), vec![hidden]));
        tensors.extend(
            attention
                .into_iter()
                .chain(feed_forward)
                .chain(norms)
                .map(|(name, shape)| (format!("model.layers.{layer}.{name}"), shape)),
        );
    }
    if latent {
        // Some of what predicts a further token, behind the last layer.
        let extra = format!("model.layers.{}", n("num_hidden_layers"));
        tensors.extend([
            (format!("{extra}.eh_proj.weight"), vec![hidden, 2 * hidden]),
            (format!("{extra}.enorm.weight"), vec![hidden]),
            (format!("{extra}.input_layernorm.weight"), vec![hidden]),
        ]);
    }
    tensors
}

fn grouped_attention(config: &Value) -> Vec<NamedShape> {
    let n = |name: &str| field(config, name);
    let (hidden, heads) = (n("hidden_size"), n("num_attention_heads"));
    let heads_kv = n("num_key_value_heads");
    let qwen3 = config["architectures"][0] == "Qwen3ForCausalLM";
    let head = config["head_dim"].as_u64();
    let head = head.unwrap_or(if qwen3 { 128 } else { hidden / heads });
    // Which of q, k, v and o have a bias.
    let (qkv_bias, o_bias) = match config["architectures"][0].as_str().unwrap() {
        "LlamaForCausalLM" => {
            let bias = config["attention_bias"] == true;
            (bias, bias)
        }
        "Qwen2ForCausalLM" => (true, false),
        _ => (false, false),
    };
    let mut tensors = Vec::new();
    for (name, rows, columns, bias) in [
        ("q_proj", heads * head, hidden, qkv_bias),
        ("k_proj", heads_kv * head, hidden, qkv_bias),
        ("v_proj", heads_kv * head, hidden, qkv_bias),
        ("o_proj", hidden, heads * head, o_bias),
    ] {
        tensors.push((format!("self_attn.{name}.weight"), vec![rows, columns]));
        if bias {
            tensors.push((format!("self_attn.{name}.bias"), vec![rows]));
        }
    }
    if qwen3 {
        tensors.push(("self_attn.q_norm.weight".to_owned(), vec![head]));
        tensors.push(("self_attn.k_norm.weight".to_owned(), vec![head]));
    }
    tensors
}

fn latent_attention(config: &Value) -> Vec<NamedShape> {
    let n = |name: &str| field(config, name);
    let (hidden, heads) = (n("hidden_size"), n("num_attention_heads"));
    let (query_rank, rank) = (n("q_lora_rank"), n("kv_lora_rank"));
    let (nope, rope) = (n("qk_nope_head_dim"), n("qk_rope_head_dim"));
    let value = n("v_head_dim");
    [
        ("q_a_proj", vec![query_rank, hidden]),
        ("q_a_layernorm", vec![query_rank]),
        ("q_b_proj", vec![heads * (nope + rope), query_rank]),
        ("kv_a_proj_with_mqa", vec![rank + rope, hidden]),
        ("kv_a_layernorm", vec![rank]),
        ("kv_b_proj", vec![heads * (nope + value), rank]),
        ("o_proj", vec![hidden, heads * value]),
    ]
    .map(|(name, shape)| (format!("self_attn.{name}.weight"), shape))
    .into()
}

/// The feed-forward of a layer of DeepSeek-V3: dense, or a router and its experts.
fn experts(config: &Value, layer: u64) -> Vec<NamedShape> {
    let n = |name: &str| field(config, name);
    let (hidden, inner) = (n("hidden_size"), n("moe_intermediate_size"));
    if layer < n("first_k_dense_replace") {
        return matrices("mlp.", n("intermediate_size"), hidden);
    }
    let count = n("n_routed_experts");
    let mut tensors = vec![
        ("mlp.gate.weight".to_owned(), vec![count, hidden]),
        ("mlp.gate.e_score_correction_bias".to_owned(), vec![count]),
    ];
    for expert in 0..count {
        tensors.extend(matrices(&format!("mlp.experts.{expert}."), inner, hidden));
    }
    let shared = n("n_shared_experts") * inner;
    tensors.extend(matrices("mlp.shared_experts.", shared, hidden));
    tensors
}

fn matrices(start: &str, inner: u64, hidden: u64) -> Vec<NamedShape> {
    [
        ("gate_proj", vec![inner, hidden]),
        ("up_proj", vec![inner, hidden]),
        ("down_proj", vec![hidden, inner]),
    ]
    .map(|(name, shape)| (format!("{start}{name}.weight"), shape))
    .into()
}
