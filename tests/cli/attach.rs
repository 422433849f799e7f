//! `sanblk attach` as far as it goes without changing anything: choices and refusals.

use kit::target::TargetConfig;

use crate::target::{Served, disk};
use crate::{Host, nobody};

#[test]
fn several_luns_are_listed_with_the_flag_to_add() {
    let host = Host::new();
    let _daemon = host.daemon();
    let units = [(0, disk(1)), (1, disk(2))];
    let served = Served::start(&["127.0.0.1"], TargetConfig::default(), &units);
    let said = host.run(&["attach", "--portal", &served.portals[0]]);
    assert_eq!(said.code, 6, "{said:?}");
    for word in [
        "--lun 0",
        "--lun 1",
        "36001405a000000000000000000000002",
        "next: add --lun",
    ] {
        assert!(said.err.contains(word), "{word}: {said:?}");
    }
    assert_eq!(said.out, "");
}

#[test]
fn a_lun_that_open_iscsi_has_is_refused_with_the_remedy() {
    let host = Host::new();
    let device = "/sys/devices/platform/host3/session7/target3:0:0/3:0:0:0";
    host.write(
        &format!("{device}/wwid"),
        "naa.6001405a000000000000000000000001\n",
        0o644,
    );
    let target = "iqn.2026-01.test.kit:disk";
    host.write(
        "/sys/class/iscsi_session/session7/targetname",
        target,
        0o644,
    );
    std::fs::create_dir_all(host.path("/sys/block/sdq")).expect("a directory");
    std::os::unix::fs::symlink(host.path(device), host.path("/sys/block/sdq/device"))
        .expect("a link");
    let _daemon = host.daemon();
    let served = Served::start(&["127.0.0.1"], TargetConfig::default(), &[(0, disk(1))]);
    let said = host.run(&["attach", "--portal", &served.portals[0]]);
    assert_eq!(said.code, 4, "{said:?}");
    for word in [
        "/dev/sdq",
        "iscsiadm -m node -T iqn.2026-01.test.kit:disk --logout",
    ] {
        assert!(said.err.contains(word), "{word}: {said:?}");
    }
}

#[test]
fn two_disks_behind_two_portals_are_refused() {
    let host = Host::new();
    let _daemon = host.daemon();
    let one = Served::start(&["127.0.0.1"], TargetConfig::default(), &[(0, disk(1))]);
    let other = Served::start(&["127.0.0.2"], TargetConfig::default(), &[(0, disk(2))]);
    let said = host.run(&[
        "attach",
        "--portal",
        &one.portals[0],
        "--portal",
        &other.portals[0],
    ]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(
        said.err.contains(&other.portals[0]) && said.err.contains("another LUN"),
        "{said:?}"
    );
}

#[test]
fn nobody_there() {
    let host = Host::new();
    let _daemon = host.daemon();
    let silent = nobody();
    let said = host.run(&["attach", "--portal", &silent]);
    assert_eq!(said.code, 7, "{said:?}");
    assert!(
        said.err.contains(&silent) && said.err.contains("next: "),
        "{said:?}"
    );
}

#[test]
fn an_initiator_that_is_not_on_the_list_learns_its_name() {
    let host = Host::new();
    let _daemon = host.daemon();
    let config = TargetConfig {
        allowed: vec!["iqn.2020-01.x:other".into()],
        ..TargetConfig::default()
    };
    let served = Served::start(&["127.0.0.1"], config, &[(0, disk(1))]);
    let said = host.run(&[
        "attach",
        "--portal",
        &served.portals[0],
        "--initiator-name",
        "iqn.2020-01.x:me",
        "--target",
        "iqn.2026-01.test.kit:disk",
    ]);
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.contains("iqn.2020-01.x:me"), "{said:?}");
}

#[test]
fn a_portal_that_is_down_is_no_reason_to_stop() {
    let host = Host::new();
    let _daemon = host.daemon();
    let units = [(0, disk(1)), (1, disk(2))];
    let served = Served::start(&["127.0.0.1"], TargetConfig::default(), &units);
    let said = host.run(&[
        "attach",
        "--portal",
        &nobody(),
        "--portal",
        &served.portals[0],
    ]);
    // It goes on until the choice of the LUN, which is the operator's.
    assert_eq!(said.code, 6, "{said:?}");
}

#[test]
fn a_target_without_the_required_digest_is_named_as_such() {
    let host = Host::new();
    let _daemon = host.daemon();
    let mut config = TargetConfig::default();
    config.limits.data_digest = kit::target::Digests::Never;
    let served = Served::start(&["127.0.0.1"], config, &[(0, disk(1))]);
    let portal = &served.portals[0];
    let said = host.run(&["attach", "--portal", portal, "--data-digest", "crc32c"]);
    // This target hangs up without a word, which may as well mean that it wants CHAP.
    assert_eq!(said.code, 8, "{said:?}");
    assert!(said.err.contains("lack the digest"), "{said:?}");
}
