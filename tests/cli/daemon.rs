//! The daemon's socket: who may speak, what is no request, which versions fit; and its life.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::Host;

fn ask(host: &Host, bytes: &[u8]) -> serde_json::Value {
    let mut stream = UnixStream::connect(host.path("/run/sanblk/control.sock")).expect("a daemon");
    stream.write_all(bytes).expect("a reader");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

fn envelope(version: &str, request: &str) -> Vec<u8> {
    format!("{{\"protocol\":1,\"version\":\"{version}\",\"request\":{request}}}\n").into_bytes()
}

const OURS: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_socket_is_for_root_and_answers() {
    let host = Host::new();
    let _daemon = host.daemon();
    let socket = host.path("/run/sanblk/control.sock");
    let mode = std::fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = ask(&host, &envelope(OURS, r#"{"verb":"ping"}"#));
    assert_eq!(answer["line"], "done", "{answer}");
    let said = host.run(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(json["daemon"]["version"], OURS);
    assert_eq!(json["volumes"], serde_json::json!([]));
    let said = host.run(&["detach", "ublkb0"]);
    assert_eq!(said.code, 3, "{said:?}");
}

#[test]
fn a_daemon_without_volumes_has_no_paths_and_no_events() {
    let host = Host::new();
    let _daemon = host.daemon();
    let said = host.run(&["events"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("nothing has happened"), "{said:?}");
    let said = host.run(&["events", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(json, serde_json::json!({ "forgotten": 0, "events": [] }));
    for words in [
        &["events", "/dev/ublkb0"][..],
        &["path", "fail", "/dev/ublkb0", "10.0.0.1"],
        &["path", "restore", "/dev/ublkb0", "10.0.0.1"],
        &["path", "remove", "/dev/ublkb0", "10.0.0.1"],
        &["set", "/dev/ublkb0", "--policy", "service-time"],
    ] {
        let said = host.run(words);
        assert_eq!(said.code, 3, "{words:?}: {said:?}");
        assert!(said.err.contains("no volume /dev/ublkb0"), "{said:?}");
        assert!(said.err.contains("nothing is attached"), "{said:?}");
    }
    let order = r#"{"verb":"path","order":"explode","volume":"ublkb0","portal":"10.0.0.1"}"#;
    let answer = ask(&host, &envelope(OURS, order));
    assert_eq!(answer["line"], "failed", "{answer}");
}

#[test]
fn another_version_is_told_what_to_restart() {
    let host = Host::new();
    let _daemon = host.daemon();
    let answer = ask(&host, &envelope("0.0.1", r#"{"verb":"ping"}"#));
    assert_eq!(answer["failure"]["kind"], "daemon", "{answer}");
    let text = answer.to_string();
    assert!(
        text.contains("0.0.1") && text.contains(OURS) && text.contains("restart"),
        "{text}"
    );
    // Also where the request itself is of a kind that this daemon does not know.
    let answer = ask(&host, &envelope("9.0.0", r#"{"verb":"teleport"}"#));
    assert!(answer.to_string().contains("9.0.0"), "{answer}");
}

#[test]
fn nonsense_costs_its_own_connection_only() {
    let host = Host::new();
    let _daemon = host.daemon();
    // One that sends nothing stays connected meanwhile.
    let _idle = UnixStream::connect(host.path("/run/sanblk/control.sock")).expect("a daemon");
    for bytes in [
        b"\n".to_vec(),
        b"{}\n".to_vec(),
        b"\xff\xfe\x00\n".to_vec(),
        b"[1,2,3]\n".to_vec(),
        envelope(OURS, r#"{"verb":"teleport"}"#),
        envelope(OURS, "null"),
        format!("{}\n", "[".repeat(60_000)).into_bytes(),
    ] {
        let answer = ask(&host, &bytes);
        assert_eq!(answer["line"], "failed", "{answer}");
    }
    // A line without an end is cut at its bound, not collected.
    let mut stream = UnixStream::connect(host.path("/run/sanblk/control.sock")).expect("a daemon");
    let chunk = vec![b'x'; 1 << 16];
    // The daemon hangs up somewhere on the way.
    while stream.write_all(&chunk).is_ok() {}
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let answer = ask(&host, &envelope(OURS, r#"{"verb":"ping"}"#));
    assert_eq!(answer["line"], "done", "{answer}");
}

#[test]
fn one_daemon_per_host() {
    let host = Host::new();
    let _daemon = host.daemon();
    let said = host.run(&["daemon"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("another sanblk daemon"), "{said:?}");
}

#[test]
fn sigterm_ends_it_and_takes_the_socket_along() {
    let host = Host::new();
    let daemon = host.daemon();
    assert!(daemon.terminate().success());
    assert!(!host.path("/run/sanblk/control.sock").exists());
    assert_eq!(host.run(&["status"]).code, 0);
}

#[test]
fn a_socket_left_behind_is_no_obstacle() {
    let host = Host::new();
    drop(host.daemon());
    assert!(
        host.path("/run/sanblk/control.sock").exists(),
        "killed, so it is left behind"
    );
    assert_eq!(host.run(&["status"]).code, 0);
    let _daemon = host.daemon();
    let said = host.run(&["status", "--json"]);
    assert!(said.out.contains("\"pid\""), "{said:?}");
}
