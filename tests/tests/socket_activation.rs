//! `serve` on a port that systemd has opened for it, as in an image: its own network has nothing but loopback.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use cloister_tests::http::Http;
use cloister_tests::parts::{program, smollm2};
use cloister_tests::process::{Process, free_port, own_address, until};
use cloister_tests::serve::{engine_turn, question};

/// `cloister serve` with these options behind them and `sockets` of systemd's, which starts it when somebody comes to one.
fn activated(sockets: &[String], state: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    for socket in sockets {
        command.arg("--listen").arg(socket);
    }
    // As `PrivateNetwork=` does. A user needs a namespace of users for it.
    command.args(["unshare", "--net"]);
    // SAFETY: it takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        command.arg("--map-root-user");
    }
    command
        .args(["sh", "-c"])
        .arg(r#"readlink /proc/self/ns/net > "$0/given" && exec "$@""#)
        .arg(state)
        .arg(program("cloister"))
        .args(["serve", "--ctx", "256", "--state"])
        .arg(state)
        .arg("--model")
        .arg(smollm2())
        .args(options)
        .stdin(Stdio::null());
    command
}

#[test]
fn a_port_that_systemd_has_opened_is_answered_from_a_network_without_interfaces() {
    let _turn = engine_turn();
    let state = tempfile::tempdir().unwrap();
    let port = free_port();
    let log = std::fs::File::create(state.path().join("log")).unwrap();
    let mut command = activated(&[format!("0.0.0.0:{port}")], state.path(), &[]);
    let serve = Process::spawn(command.stderr(log));
    let url = format!("http://127.0.0.1:{port}");
    let http = Http::default();
    until("serve is ready", || {
        let answer = http.get(&format!("{url}/health"), &[]).ok()?;
        (answer.status == 200).then_some(())
    });
    let request = question("What is the capital of France?", 4).to_string();
    let answer = http.post(&format!("{url}/v1/chat/completions"), &request);
    assert_eq!(answer.unwrap().status, 200);

    // It has stayed where it was put, and knows what that is.
    let network = std::fs::read_link(format!("/proc/{}/ns/net", serve.0.id())).unwrap();
    let given = std::fs::read_to_string(state.path().join("given")).unwrap();
    assert_eq!(network, Path::new(given.trim()));
    assert_ne!(network, std::fs::read_link("/proc/self/ns/net").unwrap());
    let said = std::fs::read_to_string(state.path().join("log")).unwrap();
    assert!(said.contains("network namespace empty"), "{said}");
    assert!(!said.contains("no network namespace"), "{said}");
    let told = http.get(&format!("{url}/api/privacy"), &[]).unwrap().json();
    assert_eq!(told["processes"][0]["status"]["network_interfaces"], 0);
    assert_eq!(told["outgoing_connections"], 0);

    // Who comes from the network finds TLS, and the address that they came to in the certificate.
    let open = own_address().to_string();
    let plain = http.get(&format!("http://{open}:{port}/health"), &[]);
    assert_ne!(plain.unwrap().status, 200);
    let certificate = Command::new("openssl")
        .args(["x509", "-noout", "-checkip", &open, "-in"])
        .arg(state.path().join("tls/cert.pem"))
        .output()
        .unwrap();
    let certificate = String::from_utf8(certificate.stdout).unwrap();
    assert!(certificate.contains("does match"), "{certificate}");
}

#[test]
fn what_is_passed_and_what_is_said_must_agree() {
    let one = || vec![format!("127.0.0.1:{}", free_port())];
    let unix = |state: &Path| vec![state.join("passed").display().to_string()];
    let state = tempfile::tempdir().unwrap();
    let two = [one(), one()].concat();
    for (sockets, options, words, code) in [
        (one(), &["--lan"][..], "ListenStream=", 2),
        (one(), &["--listen", "127.0.0.1:0"], "ListenStream=", 2),
        (two, &[], "2 sockets were passed", 1),
        (unix(state.path()), &[], "is no TCP socket", 1),
    ] {
        let mut command = activated(&sockets, state.path(), options);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        until("somebody can come", || match sockets[0].parse() {
            Ok(address) => TcpStream::connect::<std::net::SocketAddr>(address)
                .map(drop)
                .ok(),
            Err(_) => std::os::unix::net::UnixStream::connect(&sockets[0])
                .map(drop)
                .ok(),
        });
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        // What systemd's program says comes before.
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("cloister: ") && last.contains(words),
            "{said}"
        );
        assert_eq!(ended.status.code(), Some(code), "{said}");
    }
}
