//! A word that stands in prompts alone is, once they are answered and the time for asking again is over, in nothing
//! that the box writes or tells.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

use cloister_tests::http::Http;
use cloister_tests::page::Page;
use cloister_tests::process::{children_of, until};
use cloister_tests::serve::question;
use cloister_tests::traces::{files_below, holds, open_files, scratch_since};
use cloister_tests::up::{Up, command};
use serde_json::json;

/// A word that is nowhere but in the prompts of this run.
static CANARY: LazyLock<String> = LazyLock::new(|| format!("zaunkoenig{}", std::process::id()));

/// Every file that a process of the box can have written.
fn files(up: &Up, began: SystemTime) -> Vec<PathBuf> {
    let mut processes: Vec<u32> = children_of(up.process.0.id())
        .iter()
        .map(|(id, _)| *id)
        .collect();
    processes.push(up.process.0.id());
    let open = processes.into_iter().flat_map(open_files);
    let written = files_below(up.folder.path());
    written
        .into_iter()
        .chain(scratch_since(began))
        .chain(open)
        .collect()
}

/// Where the canary is.
fn found(up: &Up, began: SystemTime) -> Vec<PathBuf> {
    let mut files = files(up, began);
    files.retain(|file| holds(file, &CANARY));
    files
}

/// What a broker of the box keeps for those who come later.
fn retained(up: &Up) -> String {
    let said = Command::new("mosquitto_sub")
        .args(["-p", &up.broker_port, "-t", "#", "-v", "--retained-only"])
        .args(["-W", "2"])
        .output()
        .expect("mosquitto-clients are installed");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn start(folder: tempfile::TempDir) -> Up {
    let config = folder.path().join("cloister.toml");
    let text = "[bridge]\nkeep-answers = 1\npools = [\"p\"]\n[[recipe]]\nname = \"told\"\ntopic = \"house/+/text\"\nprompt = \"Sum up: {{ json.text }}\"\nresult = \"house/+/summary\"\nmax_tokens = 4\n";
    std::fs::write(&config, text).unwrap();
    let log = File::create(folder.path().join("log")).unwrap();
    let mut up = command(&folder.path().join("state"));
    up.args(["--port", "0", "--config"])
        .arg(&config)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .env("CLOISTER_LOG", "trace")
        .stderr(log);
    Up::start_command(up, folder)
}

#[test]
fn a_word_of_prompts_is_nowhere_once_they_are_answered_and_the_time_to_ask_again_is_over() {
    let began = SystemTime::now();
    let up = start(tempfile::tempdir().unwrap());
    let chat = format!("{}v1/chat/completions", up.page);
    let prompt = format!("Write the word {} again and again.", *CANARY);
    let http = Http::default();

    let answer = http.post(&chat, &question(&prompt, 24).to_string());
    assert_eq!(answer.unwrap().status, 200);
    {
        let page = Page::open_at(up.page.trim_end_matches('/'));
        page.ask(&prompt);
        until("an answer is there", || {
            (page.answer().len() > 20).then_some(())
        });
        page.stop();
    }

    // What makes no sense on any topic that is listened to is no secret less.
    let (canary, said) = (&*CANARY, format!("{{\"text\": \"{}\"}}", *CANARY));
    let wrong_ask = json!({"id": canary, "prompt": canary, "reply_to": format!("{canary}/set")});
    for topic in [
        "cloister/test/ask",
        "cloister/test/cancel",
        "cloister/test/default/model/set",
        "cloister/test/default/think/set",
        "cloister/test/warm-up",
        "cloister/pool/p/ask",
        "cloister/pool/p/cancel",
        "homeassistant/status",
        &format!("house/{canary}/text"),
        "cloister/test/stop",
    ] {
        for payload in [
            canary,
            &said,
            &wrong_ask.to_string(),
            &format!("{{\"{canary}"),
        ] {
            let message = ["-V", "5", "-q", "1", "-t", topic, "-m", payload];
            let reply = ["-D", "publish", "response-topic", canary];
            up.say(&[&message[..], &reply].concat());
        }
        up.say(&["-q", "1", "-r", "-t", topic, "-m", canary]);
        up.say(&["-q", "1", "-r", "-t", topic, "-n"]);
    }
    up.say(&["-q", "1", "-t", "cloister/test/stop", "-n"]);

    // While it waits it is in the journal, and this test finds it there.
    let ask =
        json!({"id": "1", "prompt": prompt, "max_tokens": 60, "temperature": 0, "stream": true});
    up.say(&["-q", "1", "-t", "cloister/test/ask", "-m", &ask.to_string()]);
    let journal = up.folder.path().join("state");
    until("the journal holds the ask", || {
        found(&up, began)
            .iter()
            .any(|file| file.starts_with(&journal))
            .then_some(())
    });

    until("nothing holds it any more", || {
        found(&up, began).is_empty().then_some(())
    });
    let told = [
        http.get(&format!("{}metrics", up.page), &[]).unwrap().body,
        http.events(&format!("{}api/events", up.page))
            .next()
            .unwrap(),
        retained(&up),
    ];
    assert!(told[0].contains("cloister_requests") && told[1].contains("queue"));
    assert!(
        told[2].contains("cloister/test/status online"),
        "{}",
        told[2]
    );
    for text in told {
        assert!(!text.contains(&*CANARY), "{text}");
    }

    // The search looks where it means to: into the log and the journal, and finds what is planted.
    let searched = files(&up, began);
    let log = up.folder.path().join("log");
    assert!(searched.contains(&log));
    for told in [
        "is ready",
        "an ask is refused",
        "a setting is ignored",
        "a cancel is ignored",
        "a recipe cannot ask",
    ] {
        assert!(holds(&log, told), "{told}");
    }
    assert!(searched.iter().any(|file| is_journal(file)), "{searched:?}");
    for folder in [up.folder.path(), Path::new("/tmp")] {
        let planted = folder.join(format!("planted-{}", std::process::id()));
        std::fs::write(&planted, &*CANARY).unwrap();
        let seen = found(&up, began);
        std::fs::remove_file(&planted).unwrap();
        assert!(seen.contains(&planted), "{seen:?}");
    }
    assert_eq!(found(&up, began), Vec::<PathBuf>::new());
}

/// The journal's database, or what SQLite keeps beside it.
fn is_journal(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.contains("journal")
}
