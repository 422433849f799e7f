//! A tree of sysfs and tables of the device mapper as the test says.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::makedev;

use super::*;

const GROUP: &str = "iEqUPMzuNMQJ7Yg9Hpu2CmnpZZWqdvnk";
const LV: &str = "w6OSsGXkVGMqWNUbNtMXNq3vC2XsZlXw";

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    /// Two volumes of ours, the first with a partition, and a disk of somebody else's.
    fn new() -> Host {
        let root = tempfile::tempdir().unwrap();
        let host = Host { root };
        for (number, path) in [
            ("259:0", "ublkb0"),
            ("259:1", "ublkb0/ublkb0p1"),
            ("259:2", "ublkb1"),
            ("8:0", "sda"),
        ] {
            host.device(number, path);
        }
        host.write("ublkb0/ublkb0p1/partition", "1\n");
        host.write("ublkb0/ublkb0p1/start", "2048\n");
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join("sys/block").join(path)
    }

    fn device(&self, number: &str, path: &str) {
        std::fs::create_dir_all(self.at(path).join("slaves")).unwrap();
        let links = self.root.path().join("sys/dev/block");
        std::fs::create_dir_all(&links).unwrap();
        symlink(self.at(path), links.join(number)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
    }

    /// A mapped device with number 253:`minor`.
    fn mapped(&self, minor: u32, uuid: &str, below: &[&str]) {
        let name = format!("dm-{minor}");
        self.device(&format!("253:{minor}"), &name);
        self.write(&format!("{name}/dm/uuid"), &format!("{uuid}\n"));
        for each in below {
            let link = Path::new(each).file_name().unwrap();
            symlink(self.at(each), self.at(&name).join("slaves").join(link)).unwrap();
        }
    }

    /// Where 253:`minor` lies, whose table has these lines.
    fn find(&self, minor: u32, lines: &[(u64, u64, &str, &str)]) -> Result<On, Failure> {
        let layout = Layout::below(self.root.path().to_owned());
        let target = |&(start, sectors, kind, parameters): &(u64, u64, &str, &str)| Target {
            start,
            sectors,
            kind: kind.to_owned(),
            parameters: parameters.to_owned(),
        };
        let kernel = Kernel {
            layout: &layout,
            table: &|device| {
                assert_eq!(device, makedev(253, minor));
                Ok(lines.iter().map(target).collect())
            },
        };
        kernel.find(&ours(), &place(), makedev(253, minor))
    }

    fn find_plain(&self, major: u32, minor: u32) -> Result<On, Failure> {
        let layout = Layout::below(self.root.path().to_owned());
        let kernel = Kernel {
            layout: &layout,
            table: &|_| panic!("it is not mapped"),
        };
        kernel.find(&ours(), &place(), makedev(major, minor))
    }
}

fn ours() -> Vec<String> {
    vec!["ublkb0".to_owned(), "ublkb1".to_owned()]
}

fn place() -> Place {
    "/dev/mapper/vg0-lvmlock:1048576".parse().unwrap()
}

fn refusal(found: Result<On, Failure>) -> String {
    let failure = found.expect_err("it is refused");
    format!("{} | {}", failure.what, failure.next)
}

#[test]
fn a_volume_a_partition_and_what_is_not_ours() {
    let host = Host::new();
    let volume = On::Volume("ublkb0".to_owned());
    assert_eq!(host.find_plain(259, 0).ok(), Some(volume));
    assert_eq!(host.find_plain(8, 0).ok(), Some(On::Elsewhere));
    assert_eq!(host.find_plain(8, 99).ok(), Some(On::Elsewhere), "gone");
    let said = refusal(host.find_plain(259, 1));
    assert!(
        said.contains("the same place is /dev/ublkb0:2097152"),
        "{said}"
    );
}

#[test]
fn a_logical_volume_on_a_volume_and_on_a_partition_of_it() {
    let host = Host::new();
    host.mapped(
        0,
        &format!("LVM-{GROUP}{LV}"),
        &["ublkb0", "ublkb0/ublkb0p1"],
    );
    let lines = [
        (0, 8192, "linear", "259:0 1050624"),
        (8192, 8192, "linear", "259:0 1058816"),
        (16384, 2048, "linear", "259:1 4096"),
    ];
    let On::Lv(lv) = host.find(0, &lines).expect("it is found") else {
        panic!("it is a logical volume");
    };
    assert_eq!(lv.volume, "ublkb0");
    assert_eq!(Some(lv.group), Uuid::parse(GROUP));
    assert_eq!(Some(lv.lv), Uuid::parse(LV));
    let extents: Vec<_> = lv.extents.iter().map(|e| (e.start, e.len)).collect();
    let sectors = |start: u64, len: u64| (start * SECTOR, len * SECTOR);
    // The first two continue each other; the partition begins at sector 2048.
    assert_eq!(extents, [sectors(1_050_624, 16384), sectors(6144, 2048)]);
}

#[test]
fn what_leases_cannot_be_kept_on_is_said() {
    let host = Host::new();
    let lvm = format!("LVM-{GROUP}{LV}");
    host.mapped(0, &lvm, &["ublkb0", "ublkb1"]);
    host.mapped(1, "CRYPT-LUKS2-1234-x", &["ublkb0"]);
    host.mapped(2, &lvm, &["dm-0"]);
    host.mapped(3, &format!("{lvm}-cow"), &["ublkb0"]);
    host.mapped(4, &lvm, &["sda"]);
    let line = (0, 8, "linear", "259:0 8");
    let said = refusal(host.find(0, &[line, (8, 8, "linear", "259:2 8")]));
    assert!(
        said.contains("two volumes, /dev/ublkb0 and /dev/ublkb1"),
        "{said}"
    );
    for (lines, what) in [
        (vec![line, (8, 8, "linear", "8:0 8")], "linear 8:0 8"),
        (
            vec![(0, 8, "striped", "2 8 259:0 0 259:2 0")],
            "striped 2 8",
        ),
        (vec![(8, 8, "linear", "259:0 8")], "makes no sense"),
        (vec![], "makes no sense"),
        (vec![(0, u64::MAX, "linear", "259:0 8")], "makes no sense"),
        (
            vec![(0, 8, "linear", "259:0 36028797018963968")],
            "not made of linear pieces",
        ),
    ] {
        let said = refusal(host.find(0, &lines));
        assert!(said.contains(what), "{what}: {said}");
    }
    // On top of another mapped device; neither is LVM's own way of lying on a volume.
    let said = refusal(host.find(2, &[(0, 8, "linear", "253:0 0")]));
    assert!(said.contains("linear 253:0 0"), "{said}");
    for minor in [1, 3] {
        let said = refusal(host.find(minor, &[line]));
        assert!(said.contains("named by the volume itself"), "{said}");
    }
    assert_eq!(host.find(4, &[]).ok(), Some(On::Elsewhere));
}

#[test]
fn physical_volumes_may_begin_where_partitions_do() {
    let host = Host::new();
    let layout = Layout::below(host.root.path().to_owned());
    assert_eq!(starts(&layout, "ublkb0"), [0, 1 << 20]);
    assert_eq!(starts(&layout, "ublkb1"), [0]);
}
