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
    let grammars: [&[u8]; 8] = [
        br##"0{"type":"object","properties":{"a":{"type":"string","pattern":"^x+$","maxLength":9},"b":{"$ref":"#/$defs/n"}},"required":["a"],"$defs":{"n":{"anyOf":[{"type":"integer","minimum":1},{"type":"null"}]}}}"##,
        br#"0{"type":"array","prefixItems":[{"const":1},{"enum":["x",null]}],"items":{"type":"number","multipleOf":0.5},"minItems":1,"maxItems":4}"#,
        b"1(?i:yes|no)[a-f0-9]{1,4}.*\\bx\\d+$",
        b"2start: item+\nitem: /[a-z]+/ | \"(\" start \")\"\n%ignore / /\n",
        b"2start: a\na[max_tokens=3, temperature=0.5]: /x*/ b?\nb: %json {\"type\":\"boolean\"}\n",
        b"3root ::= item (\",\" item)* # a list\nitem ::= [a-z0-9] [^\\n]{2,3} | \"\\x41\"\n",
        b"3root ::= \"(\" root \")\" | .?\n",
        b"3root ::= ((\"a\"?)+)* \"b\"\n",
    ];
    let grammars = grammars.map(<[u8]>::to_vec).to_vec();
    for (target, sound) in [
        ("grammar", grammars),
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
