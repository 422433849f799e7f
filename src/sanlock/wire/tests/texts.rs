//! Strings that clients take apart again.

use std::ffi::OsString;

use lockmgr::ondisk::{Geometry, Name};

use super::super::flags::{LockspaceFlags, ResourceFlags, RindexFlags};
use super::super::structs::{BadGeometry, Disk, Lockspace, PlacedResource, Resource};
use super::super::text::{DaemonText, Held, lockspace, resource};
use super::trace::Trace;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn disk(path: &str, offset: u64) -> Disk {
    let path = OsString::from(path);
    Disk { path, offset }
}

#[test]
fn colons_and_blanks_in_paths_are_escaped() {
    let mut placed = PlacedResource {
        resource: Resource {
            lockspace: name("LS"),
            name: name("RA"),
            lver: 0,
            data64: 0,
            data32: 0,
            flags: ResourceFlags::default(),
            num_disks: 1,
        },
        disks: vec![disk("/dev/my vg:1", 1 << 20)],
    };
    let text = |placed: &_, held| String::from_utf8(resource(placed, held)).expect("ASCII");
    assert_eq!(
        text(&placed, Held::Exclusive { lver: 3 }),
        r"LS:RA:/dev/my\ vg\:1:1048576:3"
    );
    placed.disks.push(disk("b", 0));
    assert_eq!(
        text(&placed, Held::Shared),
        r"LS:RA:/dev/my\ vg\:1:1048576:b:0:SH"
    );
    let space = Lockspace {
        name: name("LS"),
        host_id: 2000,
        flags: LockspaceFlags::default(),
        disk: disk("a:b", 7),
    };
    assert_eq!(lockspace(&space), br"LS:2000:a\:b:7");
}

#[test]
fn a_path_is_cut_where_its_field_ends() {
    let long = disk(&"x".repeat(3000), 5);
    let bytes = long.emit();
    assert_eq!(bytes[1023], 0);
    assert_eq!(Disk::parse(&bytes), disk(&"x".repeat(1023), 5));
    let mut full = bytes;
    full[..1024].fill(b'y');
    assert_eq!(Disk::parse(&full).path.len(), 1023);
}

#[test]
fn a_geometry_has_two_bits_or_none() {
    assert_eq!(ResourceFlags(0x8).geometry(), Ok(None));
    for geometry in Geometry::ALL {
        let flags = LockspaceFlags::ADD.with_geometry(geometry);
        assert_eq!(flags.geometry(), Ok(Some(geometry)));
        assert!(flags.contains(LockspaceFlags::ADD));
        let again = RindexFlags(flags.0).with_geometry(Geometry::B4096_M8);
        assert_eq!(again.geometry(), Ok(Some(Geometry::B4096_M8)));
    }
    for bits in [0x10, 0x100, 0x300, 0x130, 0x180, 0x2f0] {
        assert_eq!(
            ResourceFlags(bits).geometry(),
            Err(BadGeometry),
            "{bits:#x}"
        );
    }
}

#[test]
fn the_daemon_says_of_itself_what_the_real_one_says() {
    let text = DaemonText {
        host_name: name("host1"),
        use_watchdog: false,
        gid: 0,
        uid: 0,
        max_worker_threads: 8,
        num_worker_threads: 2,
        io_timeout: 10,
        kill_grace_seconds: 40,
        helper_pid: 27125,
        monotime: 1180,
    }
    .to_string();
    let ours: Vec<&str> = text
        .split(' ')
        .map(|pair| pair.split('=').next().unwrap_or(pair))
        .collect();
    // 3.9.5 says what 5.1.1 says, without what the latter has of its own.
    let recorded = Trace::load("sanlock-5.1.1/sid_status_D").printed;
    let theirs: Vec<&str> = recorded
        .iter()
        .skip_while(|line| !line.starts_with("daemon"))
        .skip(1)
        .map_while(|line| line.strip_prefix("    "))
        .filter_map(|pair| pair.split('=').next())
        .filter(|key| *key != "use_compare_and_write" && !key.starts_with("create_"))
        .collect();
    assert_eq!(ours, theirs);
}
