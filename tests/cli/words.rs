//! Command lines and files that are wrong, and verbs without a daemon.

use crate::Host;

#[test]
fn version_and_help() {
    let host = Host::new();
    let said = host.run(&["--version"]);
    assert_eq!(
        (said.code, said.out.trim()),
        (0, concat!("sanblk ", env!("CARGO_PKG_VERSION")))
    );
    let said = host.run(&["--help"]);
    assert_eq!(said.code, 0);
    for word in [
        "discover",
        "attach",
        "detach",
        "set",
        "path",
        "status",
        "events",
        "lease",
        "Exit codes:",
    ] {
        assert!(said.out.contains(word), "{}", said.out);
    }
    let said = host.run(&["attach", "--help"]);
    assert!(
        said.out.contains("--no-path-retry") && said.out.contains("target-secret"),
        "{}",
        said.out
    );
    let said = host.run(&["path", "--help"]);
    for word in ["fail", "restore", "remove"] {
        assert!(said.out.contains(word), "{}", said.out);
        let said = host.run(&["path", word, "--help"]);
        for word in ["<VOLUME>", "<PORTAL>", "--json"] {
            assert!(said.out.contains(word), "{}", said.out);
        }
    }
    let said = host.run(&["events", "--help"]);
    assert!(said.out.contains("1000"), "{}", said.out);
    let said = host.run(&["attach", "--help"]);
    // Secrets never come from the command line.
    assert!(
        !said.out.contains("--secret") && !said.out.contains("--password"),
        "{}",
        said.out
    );
}

#[test]
fn wrong_words_are_usage_errors() {
    let host = Host::new();
    for words in [
        &["frobnicate"][..],
        &["attach"],
        &["attach", "--portal", "host:0"],
        &[
            "attach",
            "--portal",
            "10.0.0.1",
            "--no-path-retry",
            "sometimes",
        ],
        &["attach", "--portal", "10.0.0.1", "--policy", "fastest"],
        &["attach", "--portal", "10.0.0.1", "--lun", "99999"],
        &["attach", "--portal", "10.0.0.1", "--target", "disk"],
        &["attach", "--portal", "10.0.0.1", "--initiator-name", "me"],
        &[
            "attach",
            "--portal",
            "10.0.0.1",
            "--config",
            "/nonexistent.toml",
        ],
        &["set", "ublkb0"],
        &["set", "ublkb0", "--policy", "fastest"],
        &["detach"],
        &["path"],
        &["path", "fail"],
        &["path", "fail", "ublkb0"],
        &["path", "restore", "ublkb0", "host:0"],
        &["path", "remove", "ublkb0", "10.0.0.1", "10.0.0.2"],
        &["path", "reinstate", "ublkb0", "10.0.0.1"],
        &["events", "ublkb0", "ublkb1"],
        &["lease"],
        &["lease", "init"],
        &["lease", "init", "lockspace", "/nonexistent"],
        &["lease", "init", "resource", "--name", "R", "/nonexistent"],
        &["lease", "init", "index", "--name", "R", "/nonexistent"],
        &["lease", "dump"],
        &["lease", "status", "--all"],
    ] {
        let said = host.run(words);
        assert_eq!(said.code, 2, "{words:?}: {said:?}");
        assert!(!said.err.is_empty(), "{words:?}");
    }
    assert!(
        !host.path("/run/sanblk").exists(),
        "a wrong command line starts no daemon"
    );
}

#[test]
fn without_a_daemon_nothing_is_attached() {
    let host = Host::new();
    let said = host.run(&["status"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains("nothing is attached"), "{said:?}");
    let said = host.run(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(json, serde_json::json!({ "daemon": null, "volumes": [] }));
    let said = host.run(&["events", "--json"]);
    assert_eq!(said.code, 0);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(json, serde_json::json!({ "forgotten": 0, "events": [] }));
    for words in [
        &["status", "ublkb0"][..],
        &["events", "ublkb0"],
        &["path", "fail", "ublkb0", "10.0.0.1"],
        &["path", "restore", "ublkb0", "10.0.0.1"],
        &["path", "remove", "ublkb0", "10.0.0.1"],
        &["set", "ublkb0", "--policy", "round-robin"],
        &["set", "ublkb0", "--no-path-retry", "30"],
        &["detach", "/dev/ublkb0"],
        &["detach", "/dev/ublkb0", "--force"],
        &["set", "ublkb0", "--policy", "failover"],
        &["set", "ublkb0", "--policy", "queue-length"],
        &["set", "ublkb0", "--policy", "service-time"],
        &["set", "ublkb0", "--policy", "late-binding"],
    ] {
        let said = host.run(words);
        assert_eq!(said.code, 3, "{words:?}: {said:?}");
        assert!(
            said.err.contains("ublkb0") && said.err.contains("next: "),
            "{said:?}"
        );
    }
}

#[test]
fn a_dead_daemon_is_not_nothing() {
    let host = Host::new();
    host.write(
        "/run/sanblk/devices/4.json",
        r#"{"id":4,"wwid":"3600","pid":1,"blocks":8,"sessions":[]}"#,
        0o600,
    );
    let said = host.run(&["status"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("/dev/ublkb4"), "{said:?}");
}

#[test]
fn a_wrong_configuration_names_file_line_and_key() {
    let host = Host::new();
    host.write(
        "/etc/sanblk/sanblk.toml",
        "# comment\npolcy = \"failover\"\n",
        0o644,
    );
    for words in [
        &["attach", "--portal", "127.0.0.1:1"][..],
        &["discover", "--portal", "127.0.0.1:1"],
    ] {
        let said = host.run(words);
        assert_eq!(said.code, 2, "{said:?}");
        for word in ["sanblk.toml", "line 2", "polcy", "no-path-retry"] {
            assert!(said.err.contains(word), "{word}: {said:?}");
        }
    }
}

#[test]
fn a_chap_file_that_others_can_read_is_refused() {
    let host = Host::new();
    let text = "username = \"me\"\nsecret = \"s3cr3t-s3cr3t\"\n";
    let file = host.write("/etc/sanblk/chap.toml", text, 0o644);
    let named = file.to_str().expect("a path").to_owned();
    for words in [
        &["attach", "--portal", "127.0.0.1:1"][..],
        &["attach", "--portal", "127.0.0.1:1", "--chap-file", &named],
        &["discover", "--portal", "127.0.0.1:1"],
    ] {
        let said = host.run(words);
        assert_eq!(said.code, 2, "{words:?}: {said:?}");
        assert!(said.err.contains("chmod 600"), "{said:?}");
        assert!(!said.err.contains("s3cr3t"), "{said:?}");
    }
}

#[test]
fn a_chap_file_without_the_target_is_refused() {
    let host = Host::new();
    let file = host.write(
        "/c.toml",
        "[target.a]\nusername = \"me\"\nsecret = \"s3cr3t-s3cr3t\"\n",
        0o600,
    );
    let file = file.to_str().expect("a path");
    let said = host.run(&[
        "attach",
        "--portal",
        "127.0.0.1:1",
        "--target",
        "iqn.2020-01.x:t",
        "--chap-file",
        file,
    ]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err.contains("iqn.2020-01.x:t") && !said.err.contains("s3cr3t"),
        "{said:?}"
    );
}
