//! Tells the compiler whether a `sandboxd` was named to be carried inside.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(manyhands_embed_sandboxd)");
    println!("cargo::rerun-if-env-changed=MANYHANDS_SANDBOXD");
    if let Some(path) = std::env::var_os("MANYHANDS_SANDBOXD").filter(|path| !path.is_empty()) {
        let path = std::path::PathBuf::from(path);
        println!("cargo::rerun-if-changed={}", path.display());
        println!("cargo::rustc-env=MANYHANDS_SANDBOXD={}", path.display());
        println!("cargo::rustc-cfg=manyhands_embed_sandboxd");
    }
}
