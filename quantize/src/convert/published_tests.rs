//! Every checkpoint that DeepSeek has published, in its real sizes: what is planned for its folder has the keys
//! and the tensors that llama.cpp's converter writes.

use std::collections::BTreeMap;

use super::*;
use crate::running::KvTypeName;
use published::Published;

#[path = "../../tests/support/published.rs"]
mod published;
#[path = "../../tests/support/recorded.rs"]
mod recorded;
#[path = "../../tests/support/hugging_face/shapes.rs"]
mod shapes;
#[allow(dead_code)]
#[path = "../../tests/support/hugging_face/stored.rs"]
mod stored;

/// Number of tensors by name, layers left out, shape and type.
fn kinds(targets: &[TensorInfo]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for tensor in targets {
        let name = match tensor.name.strip_prefix("blk.") {
            None => tensor.name.clone(),
            Some(rest) => format!("blk.N.{}", rest.split_once('.').unwrap().1),
        };
        let kind = format!("{name} {:?} {}", tensor.dims, tensor.tensor_type.name());
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn assert_as_upstream(name: &'static str) {
    let published = Published::of(name);
    let inputs = Inputs::open(&published.folder(), None).unwrap();
    let plan = inputs.plan(&Recipe::of(FileType::BF16)).unwrap();
    let metadata: serde_json::Map<_, _> = plan
        .source
        .metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), recorded::recorded(value)))
        .collect();
    let expected = published.recorded["metadata"].as_object().unwrap();
    for (key, value) in expected {
        assert_eq!(metadata.get(key), Some(value), "{name}: {key}");
    }
    for key in metadata.keys() {
        assert!(
            expected.contains_key(key),
            "{name}: {key} is not upstream's"
        );
    }
    let expected: BTreeMap<String, u64> =
        serde_json::from_value(published.recorded["tensors"].clone()).unwrap();
    assert_eq!(kinds(&plan.targets), expected, "{name}");
}

#[test]
fn the_distills_of_qwen() {
    for size in ["1.5B", "7B", "14B", "32B"] {
        let name = format!("DeepSeek-R1-Distill-Qwen-{size}");
        assert_as_upstream(name.leak());
    }
    assert_as_upstream("DeepSeek-R1-0528-Qwen3-8B");
}

#[test]
fn the_distills_of_llama() {
    assert_as_upstream("DeepSeek-R1-Distill-Llama-8B");
    assert_as_upstream("DeepSeek-R1-Distill-Llama-70B");
}

#[test]
fn r1_r1_0528_r1_zero_and_v3() {
    for name in [
        "DeepSeek-R1",
        "DeepSeek-R1-0528",
        "DeepSeek-R1-Zero",
        "DeepSeek-V3",
    ] {
        assert_as_upstream(name);
    }
}

#[test]
fn what_room_is_left_goes_to_the_down_matrices_of_experts() {
    let r1 = Published::of("DeepSeek-R1");
    let inputs = Inputs::open(&r1.folder(), None).unwrap();
    let running = Running {
        ctx: 8192,
        kv_type: KvTypeName::F16,
    };
    let room = Bytes(290 << 30);
    let recipe = inputs.fit(room, &Recipe::of(FileType::F16), &running);
    let recipe = recipe.unwrap();
    assert_eq!(recipe.file_type, FileType::Q3_K_S);
    assert!(recipe.raised > 0 && recipe.raised < recipe.raisable(&inputs.shape));
    let need = |raised| {
        let recipe = Recipe {
            raised,
            ..recipe.clone()
        };
        let (tensors, _) = inputs.targets(&recipe).unwrap();
        let need = running.need(&inputs.source.metadata, &tensors).unwrap();
        need.total()
    };
    assert!(need(recipe.raised) <= room.0 && need(recipe.raised + 1) > room.0);
    // A model without experts has nothing to raise.
    let dense = Published::of("DeepSeek-R1-Distill-Qwen-7B");
    let inputs = Inputs::open(&dense.folder(), None).unwrap();
    let recipe = inputs.fit(Bytes(6 << 30), &Recipe::of(FileType::F16), &running);
    assert_eq!(recipe.unwrap().raised, 0);
}
