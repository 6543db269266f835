//! Compiles the hook against the headers inside the pinned sys crate's own package.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/hook.cpp");
    // Nothing to enter without kernels.
    #[cfg(feature = "ggml")]
    if ["x86_64", "aarch64"].contains(
        &std::env::var("CARGO_CFG_TARGET_ARCH")
            .unwrap_or_default()
            .as_str(),
    ) {
        hook::compile();
    }
}

#[cfg(feature = "ggml")]
mod hook {
    use std::path::PathBuf;
    use std::process::{Command, Output};

    pub fn compile() {
        let ggml = sys_crate().join("llama.cpp/ggml");
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .warnings(false)
            .include(ggml.join("include"))
            .include(ggml.join("src"))
            .include(ggml.join("src/ggml-cpu"))
            .file("src/hook.cpp")
            .compile("cloister_kernels_hook");
    }

    /// The folder of llama-cpp-sys-2, which tells no dependant where its headers are.
    fn sys_crate() -> PathBuf {
        // cargo lists packages only when all that the lock file names are there, while a build downloads just
        // what it needs itself: on a fresh machine the rest has to come first.
        let mut output = metadata(&["--offline"]);
        if !output.status.success() {
            output = metadata(&[]);
        }
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
        let manifest = metadata["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|package| package["name"] == "llama-cpp-sys-2")
            .and_then(|package| package["manifest_path"].as_str())
            .expect("llama-cpp-sys-2 is a dependency");
        PathBuf::from(manifest)
            .parent()
            .expect("a manifest lies in a folder")
            .to_owned()
    }

    fn metadata(options: &[&str]) -> Output {
        let cargo = std::env::var_os("CARGO").expect("cargo sets CARGO");
        Command::new(cargo)
            .args(["metadata", "--format-version=1", "--locked"])
            .args(options)
            .output()
            .expect("cargo metadata runs")
    }
}
