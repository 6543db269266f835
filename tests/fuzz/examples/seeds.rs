//! Writes the sound files that fuzzing starts from: `seeds FOLDER` makes `FOLDER/TARGET/sound`.

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("a folder is wanted");
    let folder = std::path::PathBuf::from(folder);
    for (target, bytes) in readers::hostile::seeds() {
        std::fs::create_dir_all(folder.join(target))?;
        std::fs::write(folder.join(target).join("sound"), bytes)?;
    }
    Ok(())
}
