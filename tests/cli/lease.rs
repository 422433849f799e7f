//! `sanblk lease` without a daemon: what is made, what is shown, and what is refused without a byte changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use lockmgr::ondisk::init;
use lockmgr::ondisk::{Geometry, Name};
use serde_json::{Value, json};

use crate::{Host, Said};

const MIB: usize = 1 << 20;

/// A file that stands for a device, on a file system with direct I/O: that of the build.
pub struct Device {
    host: Host,
    dir: tempfile::TempDir,
}

impl Device {
    pub fn new(bytes: &[u8]) -> Device {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let device = Device {
            host: Host::new(),
            dir,
        };
        fs::write(device.file(), bytes).expect("a file");
        device
    }

    pub fn zeros(mib: usize) -> Device {
        Device::new(&vec![0; mib * MIB])
    }

    fn fixture(name: &str) -> Device {
        Device::new(&fixture(name))
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("device")
    }

    pub fn at(&self, offset: usize) -> String {
        format!("{}:{offset}", self.file().display())
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).expect("the file")
    }

    pub fn lease(&self, words: &[&str]) -> Said {
        self.host.run(&[&["lease"], words].concat())
    }

    pub fn lockspace(&self, name: &str, offset: usize, more: &[&str]) -> Said {
        let place = self.at(offset);
        let words = ["init", "lockspace", "--name", name, &place];
        self.lease(&[&words, more].concat())
    }

    pub fn resource(&self, name: &str, offset: usize, more: &[&str]) -> Said {
        let place = self.at(offset);
        let words = [
            "init",
            "resource",
            "--lockspace",
            "LS",
            "--name",
            name,
            &place,
        ];
        self.lease(&[&words, more].concat())
    }

    fn json(&self, verb: &str, offset: usize) -> Value {
        let said = self.lease(&[verb, "--json", &self.at(offset)]);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    /// The code and every one of the words, and the device as it was.
    fn refuses(&self, before: &[u8], said: &Said, code: i32, words: &[&str]) {
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{said:?}");
        for word in words {
            assert!(said.err.contains(word), "no {word:?}: {said:?}");
        }
        assert!(self.bytes() == before, "bytes changed: {said:?}");
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a short name")
}

/// An area that the real program wrote; lockmgr's tests say what the files mean.
fn fixture(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("lockmgr/tests/fixtures");
    let read = |file: &str| {
        fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let sectors = read("sectors.txt");
    let sectors: HashMap<&str, &str> = sectors
        .lines()
        .map(|line| line.split_once(' ').expect("an id and its bytes"))
        .collect();
    let image = read(&format!("{name}.image"));
    let (size, places) = image.split_once('\n').expect("a size");
    let size = size.strip_prefix("size ").expect("a size");
    let mut bytes = vec![0; size.parse().expect("a number")];
    let stride = if name.starts_with("s4k") { 4096 } else { 512 };
    for place in places.lines() {
        let mut words = place.split(' ');
        let at: usize = words.next().expect("a place").parse().expect("a number");
        let hex = sectors[words.next().expect("a sector")];
        let times = words.next().map_or("1", |times| &times[1..]);
        for time in 0..times.parse().expect("a number") {
            for (i, digits) in hex.as_bytes().chunks(2).enumerate() {
                let digits = std::str::from_utf8(digits).expect("digits");
                bytes[at + time * stride + i] = u8::from_str_radix(digits, 16).expect("digits");
            }
        }
    }
    bytes
}

#[test]
fn what_is_made_is_shown() {
    let device = Device::zeros(4);
    let said = device.lockspace("LS", 0, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out
            .ends_with(": 1 MiB of 512-byte sectors, for hosts 1 to 2000\n"),
        "{said:?}"
    );
    let said = device.resource("RA", MIB, &["--max-hosts", "5", "--json"]);
    let made: Value = serde_json::from_str(&said.out).expect("JSON");
    let path = device.file().display().to_string();
    assert_eq!(
        made,
        json!({"path": path, "offset_bytes": MIB, "sector_bytes": 512, "area_bytes": MIB, "hosts": 5,
               "replaced": "nothing"})
    );

    // Exactly what the library formats, and nothing beside it.
    let geometry = Geometry::B512_M1;
    let [mut space, first] = init::lockspace(geometry, &name("LS"), 10).expect("sane");
    space.bytes[..512].copy_from_slice(&first.bytes);
    let resource = init::resource_for(geometry, &name("LS"), &name("RA"), 5).expect("sane");
    let wanted = [space.bytes, resource.bytes, vec![0; 2 * MIB]].concat();
    assert!(device.bytes() == wanted);

    let said = device.lease(&["dump", &device.at(0)]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((said.code, lines.len()), (0, 2), "{said:?}");
    assert!(
        lines[1].starts_with("01048576 ") && lines[1].ends_with(" RA 0000000000 0000 0000 0/0/0")
    );
    let dump = device.json("dump", 0);
    assert_eq!(dump["areas"][0]["kind"], "lockspace");
    assert_eq!(dump["areas"][0]["slots"], json!([]));
    assert_eq!(dump["areas"][1]["leader"]["num_hosts"], 5);
    assert_eq!(
        dump["areas"][1]["leader"]["flag_names"],
        json!(["ALIGN_1M"])
    );
    assert_eq!(dump["areas"].as_array().map(Vec::len), Some(2));

    let said = device.lease(&["status", &device.file().display().to_string()]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (
            0,
            "lockspace LS  at 0  0 of 2000 host numbers taken\nresource RA of LS  at 1048576  version 0  free\n"
        )
    );
    assert!(device.bytes() == wanted, "looking changes nothing");
}

#[test]
fn large_sectors_take_8_mib() {
    let device = Device::zeros(24);
    let sector = ["--sector", "4096"];
    let said = device.lockspace("LS", 0, &sector);
    assert_eq!(said.code, 0, "{said:?}");
    let said = device.resource("RA", 16 * MIB, &["--sector", "4096", "--align", "8M"]);
    assert_eq!(said.code, 0, "{said:?}");
    let resource = init::resource(Geometry::B4096_M8, &name("LS"), &name("RA")).expect("sane");
    assert!(device.bytes()[16 * MIB..] == resource.bytes);
    // A walk ends at the gap; behind it one can look by offset.
    assert_eq!(
        device.json("status", 0)["areas"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(device.json("status", 16 * MIB)["areas"][0]["name"], "RA");
}

#[test]
fn what_cannot_be_is_refused_untouched() {
    let device = Device::zeros(9);
    let before = device.bytes();
    let long = "x".repeat(49);
    for (words, sentence) in [
        (
            &["--align", "8M"][..],
            "there are no 8 MiB areas of 512-byte sectors",
        ),
        (&["--sector", "4096", "--align", "1M"], "value block"),
        (&["--sector", "4096", "--align", "2M"], "value block"),
        (&["--sector", "4096", "--align", "4M"], "value block"),
        (&["--sector", "1024"], "512 or 4096"),
        (&["--align", "16M"], "1M, 2M, 4M or 8M"),
        (&["--name", &long], "cannot be used multiple times"),
    ] {
        for said in [
            device.lockspace("LS", 0, words),
            device.resource("RA", 0, words),
        ] {
            device.refuses(&before, &said, 2, &[sentence]);
        }
    }
    for (name, offset, words, sentence) in [
        (&long[..], 0, &[][..], "at most 48 bytes"),
        ("", 0, &[], "a name is needed"),
        ("RA", 512, &[], "byte 512 is no place for an area of 1 MiB"),
        (
            "RA",
            MIB,
            &["--sector", "4096"],
            "no place for an area of 8 MiB",
        ),
        ("RA", 9 * MIB, &[], "no room"),
        ("RA", 8 * MIB, &["--sector", "4096"], "no room"),
    ] {
        for said in [
            device.lockspace(name, offset, words),
            device.resource(name, offset, words),
        ] {
            device.refuses(&before, &said, 2, &[sentence]);
        }
    }
    for hosts in ["0", "2001", "18446744073709551615"] {
        let said = device.resource("RA", 0, &["--max-hosts", hosts]);
        device.refuses(&before, &said, 2, &["1 to 2000 hosts", hosts]);
    }
    let far = usize::MAX - (MIB - 1);
    device.refuses(&before, &device.lockspace("LS", far, &[]), 2, &["no room"]);
}

#[test]
fn what_may_be_in_use_is_refused_untouched() {
    for (image, offset, words) in [
        // Held, or the host died.
        (
            "s512-04-host1-host2-joined",
            0,
            &[
                "lockspace \"LS\"",
                "host 1 (host1) is, or died",
                "dd if=/dev/zero",
            ][..],
        ),
        // Free, but resources remember its generations.
        ("s512-23-hosts-left", 0, &["was, up to generation"]),
        (
            "s512-02-resources-free",
            MIB,
            &["resource \"RA\"", "never held, but a host may be taking it"],
        ),
        (
            "s512-05-RA-ex-host1",
            MIB,
            &[
                "resource \"RA\" of lockspace \"LS\"",
                "held by host 1, generation 1",
            ],
        ),
        (
            "s512-14-RA-released",
            MIB,
            &["hosts have used, host 1 last"],
        ),
        (
            "s512-07-RB-sh-host1-host2",
            2 * MIB,
            &["resource \"RB\"", "hosts have used"],
        ),
        ("s512-20-rindex-formatted", 4 * MIB, &["a resource index"]),
        // Formatted with flags that somebody wanted.
        ("sid512-08-no-timeout-and-caw", 0, &["is not free"]),
        // Other layouts, and zeros that belong to one.
        ("s4k8m-01-init", 0, &["laid out otherwise"]),
        ("s4k8m-01-init", 8 * MIB, &["resource \"RA\"", "never held"]),
        (
            "s4k8m-01-init",
            10 * MIB,
            &["lies within resource \"RA\"", "of 8 MiB at byte 8388608"],
        ),
    ] {
        let device = Device::fixture(image);
        let before = device.bytes();
        for said in [
            device.lockspace("LS", offset, &[]),
            device.resource("RA", offset, &[]),
        ] {
            device.refuses(&before, &said, 4, words);
        }
    }
}

#[test]
fn data_of_others_is_refused_untouched() {
    let fresh = |change: &dyn Fn(&mut [u8])| {
        let device = Device::zeros(3);
        assert_eq!(device.lockspace("LS", 0, &[]).code, 0);
        assert_eq!(device.resource("RA", MIB, &[]).code, 0);
        let mut bytes = device.bytes();
        change(&mut bytes);
        Device::new(&bytes)
    };
    for (at, offset, word) in [
        // The last byte of zeros; of a fresh lockspace; of a fresh resource.
        (3 * MIB - 1, 2 * MIB, "byte 1048575 of the area is not"),
        (MIB - 1, 0, "byte 1048575 behind its slots"),
        (2 * MIB - 1, MIB, "never held"),
        // Damage: of the last slot, of the leader.
        (1999 * 512 + 60, 0, "at byte 1023656: "),
        (MIB + 60, MIB, "checksum at byte 1048744: "),
        // A host that calls others from a slot that says nothing.
        (5 * 512 + 300, 0, "host 6"),
    ] {
        let device = fresh(&|bytes| bytes[at] ^= 1);
        let before = device.bytes();
        for said in [
            device.lockspace("LS", offset, &[]),
            device.resource("RA", offset, &[]),
        ] {
            device.refuses(&before, &said, 4, &[word]);
        }
    }
    // A deleted resource in which something happened afterwards.
    for (at, words) in [
        (3 * MIB + 60, &["checksum of its leader"][..]),
        (3 * MIB + 512, &["magic at byte 3146240: "]),
        (3 * MIB + 520, &["a host asks for"]),
        (4 * MIB - 1, &["byte 1048575 of the area is not zero"]),
    ] {
        let mut bytes = fixture("s512-19-RC-cleared");
        bytes[at] ^= 1;
        let device = Device::new(&bytes);
        device.refuses(&bytes, &device.resource("RC", 3 * MIB, &[]), 4, words);
    }
    // A label of LVM in the second sector: zeros further on are not free.
    let mut bytes = vec![0; 3 * MIB];
    bytes[512..520].copy_from_slice(b"LABELONE");
    let device = Device::new(&bytes);
    device.refuses(&bytes, &device.lockspace("LS", 0, &[]), 4, &["0x00000000"]);
    let said = device.lockspace("LS", MIB, &[]);
    device.refuses(
        &bytes,
        &said,
        4,
        &["begins with something else", "of their own"],
    );
}

#[test]
fn what_no_host_can_be_in_may_be_made_anew() {
    let geometry = Geometry::B512_M1;
    let [whole, first] = init::lockspace(geometry, &name("NEW"), 10).expect("sane");
    let mut lockspace = whole.bytes.clone();
    lockspace[..512].copy_from_slice(&first.bytes);
    let resource = init::resource(geometry, &name("LS"), &name("NEW"))
        .expect("sane")
        .bytes;
    for (image, offset, what) in [
        ("s512-02-resources-free", 0, "lockspace \"LS\""),
        ("s512-19-RC-cleared", 3 * MIB, "deleted resource \"RC\""),
    ] {
        for make in [Device::lockspace, Device::resource] {
            let device = Device::fixture(image);
            let before = device.bytes();
            let said = make(&device, "NEW", offset, &["--json"]);
            assert_eq!(said.code, 0, "{said:?}");
            let made: Value = serde_json::from_str(&said.out).expect("JSON");
            let replaced = made["replaced"].as_str().expect("a string");
            assert!(replaced.starts_with(what), "{replaced}");
            let after = device.bytes();
            let area = &after[offset..offset + MIB];
            assert!(area == lockspace || area == resource);
            assert!(
                after[..offset] == before[..offset]
                    && after[offset + MIB..] == before[offset + MIB..]
            );
        }
    }
    // A formatting that was cut short between its two writes.
    let device = Device::new(&whole.bytes);
    assert_eq!(device.lease(&["status", &device.at(0)]).code, 3);
    assert_eq!(device.lockspace("NEW", 0, &[]).code, 0);
    assert!(device.bytes() == lockspace);
}

#[test]
fn dumps_are_those_of_the_real_tool() {
    for image in [
        "s512-03-host1-joined",
        "s512-07-RB-sh-host1-host2",
        "s512-10-RB-converted-ex-host1",
        "s4k8m-05-RA-sh-both",
        "s512crash-03-host1-rejoined-gen2",
        "sid512-04-host1-dead-ext",
        "mixed512-01-RA-ex-sid-RB-sh-all",
        "lvm-512-after-lvcreate-lvremove",
    ] {
        let path = format!("lockmgr/tests/fixtures/{image}.sanlock.txt");
        let theirs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        let theirs = theirs.expect("what the real tool printed");
        let theirs = theirs
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with("$ "));
        let theirs: Vec<&str> = theirs.filter(|line| !line.is_empty()).collect();
        let device = Device::fixture(image);
        let before = device.bytes();
        let said = device.lease(&["dump", &device.at(0)]);
        assert_eq!(said.code, 0, "{image}: {said:?}");
        assert_eq!(said.out.lines().collect::<Vec<_>>(), theirs, "{image}");
        assert!(device.bytes() == before);
    }
}

#[test]
fn dumps_as_json_name_every_field() {
    let dump = Device::fixture("s512-10-RB-converted-ex-host1").json("dump", 0);
    let slot = &dump["areas"][0]["slots"][1];
    assert_eq!(
        (&slot["host_id"], &slot["offset_bytes"]),
        (&json!(2), &json!(512))
    );
    assert_eq!(slot["leader"]["resource_name"], "host2");
    assert_eq!(slot["leader"]["io_timeout_s"], 5);
    let rb = &dump["areas"][2];
    assert_eq!(
        (&rb["kind"], &rb["leader"]["owner_id"]),
        (&json!("resource"), &json!(1))
    );
    assert_eq!(rb["hosts"][0]["dblock"]["inp"], 1);
    assert_eq!(rb["hosts"][1]["dblock"]["released"], true);

    let index = &Device::fixture("s512-21-rindex-two-entries").json("dump", 4 * MIB)["areas"][0];
    assert_eq!(
        (&index["kind"], &index["space_name"]),
        (&json!("index"), &json!("LS"))
    );
    assert_eq!(
        index["entries"][0],
        json!({"index": 0, "name": "res-one", "offset_bytes": 6 * MIB})
    );

    let lvb = Device::fixture("s512-13-RC-released-lvb-on-disk").json("dump", 3 * MIB);
    let hex = lvb["areas"][0]["lvb_hex"].as_str().expect("a string");
    let bytes = fixture("s512-13-RC-released-lvb-on-disk");
    let sector = &bytes[3 * MIB + 2002 * 512..][..512];
    let whole: String = sector.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!hex.is_empty() && !hex.ends_with("00"), "{hex}");
    assert_eq!(format!("{hex:0<1024}"), whole);

    let deleted = Device::fixture("s512-19-RC-cleared").json("dump", 3 * MIB);
    assert_eq!(deleted["areas"][0]["kind"], "deleted-resource");
    assert_eq!(deleted["areas"][0]["damage"], json!([]));
}

#[test]
fn status_says_who_has_what() {
    let said = |image: &str| {
        let device = Device::fixture(image);
        let said = device.lease(&["status", &device.at(0)]);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    let out = said("s512-07-RB-sh-host1-host2");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "lockspace LS  at 0  2 of 2000 host numbers taken");
    assert!(
        lines[1].starts_with("  host 1  host1  generation 1  taken, renewed at "),
        "{out}"
    );
    assert!(
        lines[2].ends_with(" s of its clock, io_timeout 5 s"),
        "{out}"
    );
    let wanted = [
        "resource RA of LS  at 1048576  version 1  exclusive",
        "  by host 1  host1  generation 1",
        "resource RB of LS  at 2097152  version 2  shared",
        "  by host 1  host1  generation 1",
        "  by host 2  host2  generation 1",
        "resource RC of LS  at 3145728  version 0  free",
        "one look does not tell a live host from a dead one:",
        "a host lives if its time has moved when you look again after twice its io_timeout",
    ];
    assert_eq!(lines[3..], wanted);
    assert!(lines.iter().all(|line| line.chars().count() <= 100));

    let out = said("s512-23-hosts-left");
    assert!(
        out.contains("host 1  host1  generation 1  has left"),
        "{out}"
    );
    assert!(
        !out.contains("does not tell"),
        "nobody is left to judge: {out}"
    );
    let out = said("sid512-04-host1-dead-ext");
    assert!(out.contains("declared dead by host 2"), "{out}");
    let out = said("s512-15-RA-request-record");
    assert!(
        out.contains("exclusive, asked for from version 99 on"),
        "{out}"
    );
    let out = said("s512-22-rindex-one-deleted");
    assert!(
        out.contains("index of LS  at 4194304  1 of 4096 resources"),
        "{out}"
    );
    assert!(
        out.contains("deleted resource RC of LS  at 3145728"),
        "{out}"
    );
}

#[test]
fn a_holder_counts_with_its_lockspace_alone() {
    // The owner of RA, taken away from the resource: seen alone, its standing is unknown.
    let device = Device::fixture("s512-05-RA-ex-host1");
    let holder = |offset: usize, area: usize| {
        device.json("status", offset)["areas"][area]["holders"][0].clone()
    };
    assert_eq!(
        holder(0, 1),
        json!({"host_id": 1, "generation": 1, "host_name": "host1", "standing": "holds"})
    );
    assert_eq!(
        holder(MIB, 0),
        json!({"host_id": 1, "generation": 1, "host_name": null, "standing": "unknown"})
    );

    // It joined again, or left: what it held is nobody's.
    for (generation, timestamp) in [(2_u64, 5_u64), (1, 0)] {
        let mut bytes = fixture("s512-05-RA-ex-host1");
        let mut slot = lockmgr::ondisk::DeltaSlot::parse(&bytes[..512]).expect("whole");
        slot.lease.owner_generation = generation;
        slot.lease.timestamp = timestamp;
        slot.emit(&mut bytes[..512]);
        let device = Device::new(&bytes);
        assert_eq!(
            device.json("status", 0)["areas"][1]["holders"][0]["standing"],
            "over"
        );
        let said = device.lease(&["status", &device.at(0)]);
        assert!(
            said.out
                .contains("  by host 1  host1  generation 1, gone: "),
            "{said:?}"
        );
    }
}

#[test]
fn what_is_no_lease_area_says_so() {
    let device = Device::new(&[&vec![0; MIB][..], &[7; 5000]].concat());
    let before = device.bytes();
    let dir = device.dir.path().display().to_string();
    for verb in ["dump", "status"] {
        for (place, code, words) in [
            (device.at(0), 3, &["no lease area", "zeros"][..]),
            (device.at(MIB), 3, &["no lease area", "0x07070707"]),
            (
                device.at(MIB + 4096),
                3,
                &["no lease area", "has 1053576 bytes"],
            ),
            (device.at(usize::MAX - 511), 3, &["no lease area"]),
            (device.at(100), 2, &["byte 100 is no multiple of 512"]),
            (format!("{dir}/nothing"), 3, &["there is no "]),
            (
                device.at(0).replace(":0", ":1M"),
                3,
                &["decimal number of bytes"],
            ),
            (
                dir.clone(),
                2,
                &["neither a block device nor a regular file"],
            ),
            (
                "/dev/null".to_owned(),
                2,
                &["neither a block device nor a regular file"],
            ),
        ] {
            let said = device.lease(&[verb, &place]);
            device.refuses(&before, &said, code, words);
            assert!(said.err.contains("next: "), "{said:?}");
        }
    }
    let missing = format!("{dir}/nothing");
    let said = device.lease(&["init", "lockspace", "--name", "LS", &missing]);
    device.refuses(&before, &said, 3, &["there is no "]);
    assert!(!Path::new(&missing).exists(), "nothing is created");
}

#[test]
fn damage_is_shown_and_told() {
    // The lock value block of the real program on another lease's host 209.
    let device = Device::fixture("s4k1m-04-RA-released-lvb");
    for verb in ["dump", "status"] {
        let said = device.lease(&[verb, &device.at(0)]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.out
                .contains("! dblock refused: checksum at byte 9248816: "),
            "{said:?}"
        );
        assert!(
            said.err
                .contains("dblock refused: checksum at byte 9248816: "),
            "{said:?}"
        );
    }
    // An unknown layout ends the walk.
    let mut bytes = fixture("s512-02-resources-free");
    bytes[12] = 7;
    let device = Device::new(&bytes);
    for verb in ["dump", "status"] {
        let said = device.lease(&[verb, &device.at(0)]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.err
                .contains("delta lease refused: checksum at byte 168"),
            "{said:?}"
        );
        assert_eq!(device.json(verb, 0)["areas"][0]["kind"], "damaged");
    }
    // A version that nobody knows.
    let mut bytes = fixture("s512-02-resources-free");
    bytes[MIB + 6] = 9;
    let device = Device::new(&bytes);
    let said = device.lease(&["status", &device.at(0)]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("version at byte 1048580: unknown version 9.4"),
        "{said:?}"
    );
    assert_eq!(device.json("status", 0)["areas"][1]["mode"], "unknown");
    let before = device.bytes();
    let said = device.resource("RA", MIB, &[]);
    device.refuses(&before, &said, 4, &["damaged: ", "version at byte 1048580"]);
}
