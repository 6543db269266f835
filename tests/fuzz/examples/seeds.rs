//! Writes the sound files that fuzzing starts from: `seeds FOLDER` makes `FOLDER/TARGET/sound`, `sound-1` and so on.

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("a folder is wanted");
    let folder = std::path::PathBuf::from(folder);
    for (target, bytes) in readers::hostile::seeds() {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join("sound"), bytes)?;
    }
    let others: [(&str, &[u8]); 2] = [
        ("ask", br#"{"id":"7","prompt":"Hi","messages":null,"stream":true,"max_tokens":3,"temperature":0.5,"think":"low","format":"json","reply_to":"answers/x","deadline":1800000000,"other":[1]}"#),
        ("cloister_toml", b"[up]\nport = 8080\n[serve]\nmodel = \"m.gguf\"\nslots = 2\n[bridge]\nbroker = \"mqtt://h\"\n[[recipe]]\nname = \"n\"\n"),
    ];
    for (target, bytes) in others {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join("sound"), bytes)?;
    }
    for (target, sound) in [
        ("http_body", serve_readers::hostile::bodies()),
        ("chat_template", serve_readers::hostile::templates()),
    ] {
        std::fs::create_dir_all(folder.join(target))?;
        for (i, bytes) in sound.into_iter().enumerate() {
            std::fs::write(folder.join(target).join(format!("sound-{i}")), bytes)?;
        }
    }
    Ok(())
}
