//! `sanblk discover` against a target on loopback.

use iscsi_client::login::LoginFailure;
use kit::target::{Chap, TargetConfig};

use crate::target::{Served, disk};
use crate::{Host, nobody};

#[test]
fn targets_and_luns_as_text_and_json() {
    let host = Host::new();
    let served = Served::start(
        &["127.0.0.1", "127.0.0.2"],
        TargetConfig::default(),
        &[(0, disk(1)), (1, disk(2))],
    );
    let said = host.run(&[
        "discover",
        "--portal",
        &served.portals[0],
        "--portal",
        &served.portals[1],
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    for line in said.out.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert_eq!(
        said.out.matches("iqn.2026-01.test.kit:disk").count(),
        2,
        "{said:?}"
    );
    assert!(
        said.out
            .contains("LUN 0  36001405a000000000000000000000001"),
        "{said:?}"
    );
    assert!(said.out.contains("via lo"), "{said:?}");

    let said = host.run(&["discover", "--json", "--portal", &served.portals[0]]);
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let target = &json["portals"][0]["targets"][0];
    assert_eq!(target["name"], "iqn.2026-01.test.kit:disk");
    assert_eq!(
        target["luns"][1]["wwid"],
        "36001405a000000000000000000000002"
    );
    assert_eq!(target["luns"][1]["size_bytes"], 1u64 << 30);
    assert_eq!(target["addresses"].as_array().expect("a list").len(), 2);
}

#[test]
fn one_silent_portal_is_no_failure() {
    let host = Host::new();
    let served = Served::start(&["127.0.0.1"], TargetConfig::default(), &[(0, disk(1))]);
    let silent = nobody();
    let said = host.run(&[
        "discover",
        "--portal",
        &silent,
        "--portal",
        &served.portals[0],
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains(&silent) && said.out.contains("36001405a"),
        "{said:?}"
    );
    let said = host.run(&["discover", "--portal", &silent]);
    assert_eq!(said.code, 7, "{said:?}");
    assert!(
        said.err.contains("no portal answers") && said.err.contains("next: "),
        "{said:?}"
    );
}

#[test]
fn long_lists_are_continued() {
    let host = Host::new();
    let config = TargetConfig {
        text_max: 16,
        ..TargetConfig::default()
    };
    let served = Served::start(&["127.0.0.1"], config, &[(0, disk(1))]);
    let said = host.run(&["discover", "--portal", &served.portals[0]]);
    assert!(said.out.contains("iqn.2026-01.test.kit:disk"), "{said:?}");
}

fn chap(md5_alone: bool) -> TargetConfig {
    TargetConfig {
        chap: Some(Chap {
            algorithms: vec![5, 7],
            md5_alone,
            name: "me".into(),
            secret: b"s3cr3t-s3cr3t".to_vec(),
            mutual: Some(("it".into(), b"mutual-s3cr3t".to_vec())),
        }),
        ..TargetConfig::default()
    }
}

#[test]
fn chap_one_way_mutual_and_with_an_old_target() {
    let one_way = "username = \"me\"\nsecret = \"s3cr3t-s3cr3t\"\n";
    let mutual = format!("{one_way}target-username = \"it\"\ntarget-secret = \"mutual-s3cr3t\"\n");
    for (md5_alone, text) in [(false, one_way), (false, mutual.as_str()), (true, one_way)] {
        let host = Host::new();
        host.write("/etc/sanblk/chap.toml", text, 0o600);
        let served = Served::start(&["127.0.0.1"], chap(md5_alone), &[(0, disk(1))]);
        let said = host.run(&["discover", "--portal", &served.portals[0]]);
        assert_eq!(said.code, 0, "{md5_alone} {said:?}");
        assert!(
            said.out.contains("LUN 0  36001405a"),
            "{md5_alone} {said:?}"
        );
        assert!(
            !said.out.contains("s3cr3t") && !said.err.contains("s3cr3t"),
            "{said:?}"
        );
    }
}

#[test]
fn wrong_secrets_are_named_and_not_shown() {
    let host = Host::new();
    let served = Served::start(&["127.0.0.1"], chap(false), &[(0, disk(1))]);
    let without = host.run(&["discover", "--portal", &served.portals[0]]);
    assert_eq!(without.code, 8, "{without:?}");
    assert!(without.err.contains("--chap-file"), "{without:?}");
    assert!(
        without
            .out
            .contains(&LoginFailure::CredentialsNeeded.to_string()[..10]),
        "{without:?}"
    );
    host.write(
        "/etc/sanblk/chap.toml",
        "username = \"me\"\nsecret = \"s3cr3t-wrong\"\n",
        0o600,
    );
    let wrong = host.run(&["discover", "--portal", &served.portals[0]]);
    assert_eq!(wrong.code, 8, "{wrong:?}");
    assert!(
        !wrong.out.contains("s3cr3t") && !wrong.err.contains("s3cr3t"),
        "{wrong:?}"
    );
}

#[test]
fn the_generated_name_is_kept() {
    let host = Host::new();
    let served = Served::start(&["127.0.0.1"], TargetConfig::default(), &[(0, disk(1))]);
    host.run(&["discover", "--portal", &served.portals[0]]);
    let file = host.path("/etc/sanblk/initiatorname");
    let first = std::fs::read_to_string(&file).expect("a generated name");
    assert!(first.starts_with("InitiatorName=iqn."), "{first}");
    host.run(&["discover", "--portal", &served.portals[0]]);
    assert_eq!(
        std::fs::read_to_string(&file).expect("the same file"),
        first
    );
}
