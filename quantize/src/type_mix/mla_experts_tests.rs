//! The mixes on the shapes of R1: names and dimensions, no weights.

use super::*;
use crate::type_mix::Recipe;

fn r1() -> (ModelShape, Vec<TensorInfo>) {
    let shape = ModelShape {
        architecture: "deepseek2".to_owned(),
        layers: 61,
        heads: 128,
        heads_kv: 1,
        experts: 256,
    };
    let mut tensors = Vec::new();
    let mut add = |name: String, dims: &[u64]| {
        tensors.push(TensorInfo::new(name, dims.to_vec(), TensorType::BF16).unwrap());
    };
    add("token_embd.weight".into(), &[7168, 129_280]);
    add("output_norm.weight".into(), &[7168]);
    add("output.weight".into(), &[7168, 129_280]);
    for layer in 0..61 {
        let mut weight = |name: &str, dims: &[u64]| add(format!("blk.{layer}.{name}"), dims);
        weight("attn_norm.weight", &[7168]);
        weight("attn_q_a.weight", &[7168, 1536]);
        weight("attn_q_b.weight", &[1536, 24_576]);
        weight("attn_kv_a_mqa.weight", &[7168, 576]);
        weight("attn_k_b.weight", &[128, 512, 128]);
        weight("attn_v_b.weight", &[512, 128, 128]);
        weight("attn_output.weight", &[16_384, 7168]);
        if layer < 3 {
            weight("ffn_gate.weight", &[7168, 18_432]);
            weight("ffn_up.weight", &[7168, 18_432]);
            weight("ffn_down.weight", &[18_432, 7168]);
            continue;
        }
        weight("ffn_gate_inp.weight", &[7168, 256]);
        weight("exp_probs_b.bias", &[256]);
        weight("ffn_gate_exps.weight", &[7168, 2048, 256]);
        weight("ffn_up_exps.weight", &[7168, 2048, 256]);
        weight("ffn_down_exps.weight", &[2048, 7168, 256]);
        weight("ffn_gate_shexp.weight", &[7168, 2048]);
        weight("ffn_up_shexp.weight", &[7168, 2048]);
        weight("ffn_down_shexp.weight", &[2048, 7168]);
    }
    (shape, tensors)
}

/// R1's tensors with the types of a recipe; those that stay as they are become F32.
fn chosen(recipe: &Recipe) -> Vec<TensorInfo> {
    let (shape, tensors) = r1();
    let references: Vec<_> = tensors.iter().collect();
    let types = recipe.choose(&shape, &references);
    let typed = tensors.iter().zip(types).map(|(t, to)| {
        let to = to.unwrap_or(TensorType::F32);
        TensorInfo::new(&t.name, t.dims.clone(), to).unwrap()
    });
    typed.collect()
}

fn low_bit_types() -> impl Iterator<Item = FileType> {
    let (shape, _) = r1();
    FileType::all().filter(move |&t| Mix::of(t, &shape).is_some())
}

fn bits(tensors: &[TensorInfo]) -> f64 {
    let bytes: u64 = tensors.iter().map(TensorInfo::bytes).sum();
    let weights: u64 = tensors.iter().map(TensorInfo::elements).sum();
    bytes as f64 * 8.0 / weights as f64
}

#[test]
fn bits_per_weight_land_where_the_name_of_the_type_says() {
    for (file_type, expected) in EXPECTED_BITS {
        let found = bits(&chosen(&Recipe::of(file_type)));
        assert!(
            (found - expected).abs() < 0.005,
            "{file_type}: {found:.3} bits per weight, not {expected}"
        );
    }
    assert_eq!(low_bit_types().count(), EXPECTED_BITS.len());
}

#[test]
fn what_every_token_meets_stays_at_four_to_six_bits() {
    for file_type in low_bit_types() {
        for tensor in chosen(&Recipe::of(file_type)) {
            if tensor.name.contains("_exps") || tensor.tensor_type == TensorType::F32 {
                continue;
            }
            let bits = bits_per_weight(tensor.tensor_type);
            assert!(
                (4.5..6.6).contains(&bits),
                "{file_type}: {} is {}",
                tensor.name,
                tensor.tensor_type
            );
        }
    }
}

#[test]
fn experts_down_matrices_get_bits_before_gate_and_up() {
    for file_type in low_bit_types() {
        let tensors = chosen(&Recipe::of(file_type));
        let bits_of = |kind: &str| {
            let found = tensors.iter().filter(|t| t.name.contains(kind));
            found.cloned().collect::<Vec<_>>()
        };
        let (gate, up, down) = (
            bits(&bits_of("ffn_gate_exps")),
            bits(&bits_of("ffn_up_exps")),
            bits(&bits_of("ffn_down_exps")),
        );
        assert_eq!(gate, up, "{file_type}");
        match file_type {
            // There is no step between the ternary types and those of other kinds.
            FileType::TQ1_0 | FileType::TQ2_0 => assert_eq!(down, up),
            _ => assert!(down > up, "{file_type}: {down} against {up}"),
        }
    }
}

#[test]
fn scores_of_experts_norms_and_biases_stay_as_they_are() {
    for tensor in chosen(&Recipe::of(FileType::IQ1_S)) {
        let small = ["_norm.", "ffn_gate_inp", "exp_probs_b"];
        let stays = small.iter().any(|part| tensor.name.contains(part));
        assert_eq!(
            tensor.tensor_type == TensorType::F32,
            stays,
            "{}",
            tensor.name
        );
    }
}

#[test]
fn asked_for_llama_quantize_s_choice_or_for_one_s_own_the_mix_gives_way() {
    let upstream = chosen(&Recipe {
        like_llama_quantize: true,
        ..Recipe::of(FileType::IQ1_S)
    });
    let own = chosen(&Recipe {
        overrides: vec!["q_a=Q8_0".parse().unwrap()],
        ..Recipe::of(FileType::IQ1_S)
    });
    let q_a = |tensors: &[TensorInfo]| {
        let found = tensors.iter().find(|t| t.name == "blk.7.attn_q_a.weight");
        found.unwrap().tensor_type
    };
    assert_eq!(q_a(&upstream), TensorType::IQ1_S);
    assert_eq!(q_a(&own), TensorType::Q8_0);
    assert_eq!(q_a(&chosen(&Recipe::of(FileType::IQ1_S))), TensorType::Q4_K);
}

#[test]
fn dense_models_and_four_bits_and_more_have_no_mix_of_our_own() {
    let (mut shape, _) = r1();
    for file_type in [FileType::IQ4_XS, FileType::Q4_K_M, FileType::Q8_0] {
        assert_eq!(Mix::of(file_type, &shape), None);
    }
    shape.architecture = "qwen2".to_owned();
    assert_eq!(Mix::of(FileType::IQ1_S, &shape), None);
}

/// Of the whole of R1.
const EXPECTED_BITS: [(FileType, f64); 17] = [
    (FileType::Q3_K_L, 4.17),
    (FileType::Q3_K_M, 3.84),
    (FileType::Q3_K_S, 3.66),
    (FileType::IQ3_M, 3.76),
    (FileType::IQ3_S, 3.62),
    (FileType::IQ3_XS, 3.25),
    (FileType::IQ3_XXS, 3.19),
    (FileType::Q2_K, 2.95),
    (FileType::Q2_K_S, 2.81),
    (FileType::IQ2_M, 2.85),
    (FileType::IQ2_S, 2.54),
    (FileType::IQ2_XS, 2.50),
    (FileType::IQ2_XXS, 2.21),
    (FileType::IQ1_M, 1.92),
    (FileType::IQ1_S, 1.73),
    (FileType::TQ2_0, 2.14),
    (FileType::TQ1_0, 1.77),
];

#[test]
fn raised_layers_get_what_the_sensitive_ones_have() {
    let (shape, _) = r1();
    let downs = |raised| {
        let recipe = Recipe {
            raised,
            ..Recipe::of(FileType::IQ2_XS)
        };
        let of = chosen(&recipe);
        let of = of.iter().filter(|t| t.name.contains("ffn_down_exps"));
        of.map(|t| t.tensor_type).collect::<Vec<_>>()
    };
    let most = Recipe::of(FileType::IQ2_XS).raisable(&shape);
    let high = |types: &[TensorType]| types.iter().filter(|t| **t == TensorType::IQ3_XXS).count();
    assert!(most > 20, "{most}");
    for raised in 0..=most {
        assert_eq!(high(&downs(raised)), high(&downs(0)) + raised as usize);
    }
    assert_eq!(high(&downs(most)), 58);
    assert_eq!(
        Recipe::of(FileType::Q2_K).raisable(&shape),
        0,
        "all have the same"
    );
    assert_eq!(
        Recipe::of(FileType::Q4_K_M).raisable(&shape),
        0,
        "no mix of ours"
    );
}
